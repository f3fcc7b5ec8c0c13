import subprocess
import sys

import numpy as np
import pytest

from pipeline.metrics import plots


def png(figure, tmp_path):
    figure.savefig(tmp_path / "figure.png")
    return (tmp_path / "figure.png").read_bytes()


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_drawing_leaves_pyplot_alone():
    code = (
        "import sys, io, numpy as np; from pipeline.metrics import plots;"
        "plots.codebook_usage(np.arange(4)).savefig(io.BytesIO());"
        "sys.exit('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_learning_curves_have_a_panel_for_each_measure(tmp_path):
    history = [
        {"step": 1, "train.loss": 3.0, "epoch": 0},
        {"step": 2, "train.loss": 2.0, "valid.loss": 2.5, "layer_weight.00": 1.0},
        {"step": 3, "train.loss": None, "tau": 0.5},
    ]
    figure = plots.learning_curves(history)
    assert {axes.get_title(): lines(axes) for axes in figure.axes} == {
        "loss": {"train": [[1, 3.0], [2, 2.0]], "valid": [[2, 2.5]]},
        "temperature tau": {"tau": [[3, 0.5]]},
    }
    assert png(figure, tmp_path)


def test_panels_begin_with_the_loss_and_end_with_what_has_no_title():
    names = ("another", "gradient_norm", "tau", "train.attention", "valid.ctc", "valid.loss")
    figure = plots.learning_curves([{"step": 1, **dict.fromkeys(names, 1.0)}])
    assert [axes.get_title() for axes in figure.axes] == [
        "loss",
        "CTC loss",
        "attention loss",
        "temperature tau",
        "gradient norm",
        "another",
    ]


@pytest.mark.parametrize("plot", [plots.learning_curves, plots.layer_weights])
def test_an_empty_history_can_be_drawn(plot, tmp_path):
    assert png(plot([]), tmp_path)


def test_layer_weights_are_one_line_a_layer(tmp_path):
    history = [
        {"step": 0, "layer_weight.06": 0.2, "layer_weight.21": 0.8},
        {"step": 5, "train.loss": 1.0},
        {"step": 10, "layer_weight.06": 0.4, "layer_weight.21": 0.6},
    ]
    figure = plots.layer_weights(history)
    assert lines(figure.axes[0]) == {
        "layer 6": [[0, 0.2], [10, 0.4]],
        "layer 21": [[0, 0.8], [10, 0.6]],
    }
    assert png(figure, tmp_path)


def test_codebook_usage_counts_the_used_units(tmp_path):
    figure = plots.codebook_usage(np.array([0, 5, 0, 9]))
    (axes,) = figure.axes
    assert "2 of 4" in axes.get_title()
    assert axes.get_lines()[0].get_ydata().tolist() == [9, 5]
    assert png(figure, tmp_path)


def test_an_unused_codebook_can_be_drawn(tmp_path):
    assert png(plots.codebook_usage(np.zeros(4)), tmp_path)


def test_shares_are_sorted_into_a_staircase():
    counts_PK = np.array(
        [
            [0, 1, 0, 3],  # rare phone, stands behind unit 3 and a part of unit 1
            [9, 1, 0, 1],
        ]
    )
    shares_PU, order_P, order_U = plots.sorted_shares(counts_PK)
    assert order_P.tolist() == [1, 0]
    assert order_U.tolist() == [0, 1, 3]
    # Unit 0 (pure), unit 1 (half and half, first of the tie), then unit 3; unit 2 never occurs.
    assert shares_PU == pytest.approx(np.array([[1.0, 0.5, 0.25], [0.0, 0.5, 0.75]]))


@pytest.mark.parametrize("num_phones", [2, 61])
def test_the_heat_map_names_its_phones_and_numbers_its_units(tmp_path, num_phones):
    counts_PK = np.zeros((num_phones, 8), int)
    counts_PK[:, 5] = range(num_phones)
    counts_PK[0, 2] = 1000
    phones = [f"phone{index}" for index in range(num_phones)]
    figure = plots.purity_heat_map(counts_PK, phones)
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["phone0", *phones[:0:-1]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "5"]
    assert png(figure, tmp_path)


def test_of_very_many_units_every_nth_is_numbered(tmp_path):
    figure = plots.purity_heat_map(np.ones((1, 250), int), ["a"])
    numbers = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert numbers == [str(unit) for unit in range(0, 250, 3)]


def test_a_heat_map_without_any_frame_says_so(tmp_path):
    figure = plots.purity_heat_map(np.zeros((2, 3)), ["a", "b"])
    assert "no frame" in figure.axes[0].get_title()
    assert png(figure, tmp_path)


def test_a_phone_with_dollar_signs_is_no_formula(tmp_path):
    assert png(plots.purity_heat_map(np.array([[1, 2]]), ["$\\oops$"]), tmp_path)
