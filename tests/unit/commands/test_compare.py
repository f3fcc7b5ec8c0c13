"""`compare` shows all variants side by side, and how sure their WERs are."""

import json

import pytest
from evaluated_variants import config, evaluated
from rich.console import Console

from pipeline.commands.compare import compare, compared, show
from pipeline.commands.error_intervals import METHOD
from pipeline.config import ConfigError
from pipeline.graph.graph import Graph

ERRORS = {"kmeans": [2, 1, 2, 2, 1, 2, 2, 1, 2], "dkm_full": [1, 0, 1, 1, 1, 1, 1, 0, 0]}


def graph_of(tmp_path, errors):
    return Graph(tuple(evaluated(tmp_path, name, each) for name, each in errors.items()))


def shown(graph, configs, output_format, against=None, **options):
    console = Console(width=200)
    with console.capture() as captured:
        show(compared(graph, configs, against), output_format, console, **options)
    return captured.get()


def test_every_format_has_the_intervals(tmp_path):
    graph = graph_of(tmp_path, ERRORS)
    configs = [config(tmp_path, name) for name in ("dkm_full", "kmeans")]
    found = json.loads(shown(graph, configs, "json"))
    assert list(found) == ["kmeans", "dkm_full"]
    assert found["kmeans"]["test.wer"] == 15 / 36
    row = found["dkm_full"]
    assert row["test.wer"] == 6 / 36
    assert row["test.wer_low"] < 6 / 36 < row["test.wer_high"]
    assert row["test.wer_reduction"] == pytest.approx(0.6)
    assert 0 < row["test.wer_reduction_low"] < 0.6 < row["test.wer_reduction_high"] <= 1
    # Eight utterances differ, all in one direction: 2 of 2^8 swaps.
    assert row["test.wer_reduction_p"] == pytest.approx(2 / 2**8, abs=0.003)
    low, high = (100 * row[f"test.wer_{edge}"] for edge in ("low", "high"))
    markdown = shown(graph, configs, "markdown")
    assert f"| 16.7 [{low:.1f}, {high:.1f}] |" in markdown
    assert METHOD in markdown
    assert f"16.7 [{low:.1f}, {high:.1f}]" in shown(graph, configs, "table")
    assert f"test.wer_low,{found['kmeans']['test.wer_low']}," in shown(graph, configs, "csv")


def test_judges_that_differ_are_named(tmp_path):
    graph = graph_of(tmp_path, ERRORS)
    configs = [config(tmp_path, name) for name in ERRORS]
    assert "judged by" not in shown(graph, configs, "markdown")
    resynthesis = configs[1].resynthesis.model_copy(update={"judge": "models/whisper"})
    configs[1] = configs[1].model_copy(update={"resynthesis": resynthesis})
    note = "which do not compare: own for kmeans, models/whisper for dkm_full."
    assert note in shown(graph, configs, "markdown")


def test_all_scores_are_shown_when_asked_for(tmp_path):
    graph, configs = graph_of(tmp_path, ERRORS), [config(tmp_path, "kmeans")]
    for output_format in ("table", "markdown"):
        assert "CER" not in shown(graph, configs, output_format)
        assert "CER" in shown(graph, configs, output_format, show_all=True)


def test_seeds_are_means_with_their_spread(tmp_path):
    members = [
        evaluated(tmp_path, name, [errors[0] + seed, *errors[1:]], name=f"seed {seed}", seed=seed)
        for name, errors in ERRORS.items()
        for seed in (0, 1)
    ]
    configs = [config(tmp_path, name) for name in ERRORS]
    row = json.loads(shown(Graph(tuple(members)), configs, "json"))["dkm_full"]
    assert row["test.wer"] == pytest.approx(6.5 / 36)
    assert row["test.wer_low"] < 6.5 / 36 < row["test.wer_high"]
    assert row["test.wer_reduction"] == pytest.approx(1 - 6.5 / 15.5)
    assert row["test.wer_reduction_p_seeds"] == pytest.approx(2 / 6, abs=0.02)
    markdown = shown(Graph(tuple(members)), configs, "markdown")
    assert "| 18.1 ± 2.0 [" in markdown
    assert "seeds of the training: 2 of each variant." in markdown
    assert "Fewer than 5 seeds of each variant: " in markdown


def test_another_variant_may_be_compared_with(tmp_path):
    graph = graph_of(tmp_path, {**ERRORS, "continuous": [0] * 9})
    configs = [config(tmp_path, name) for name in ("kmeans", "dkm_full", "continuous")]
    found = json.loads(shown(graph, configs, "json", against="dkm_full"))
    assert found["kmeans"]["test.wer_reduction"] == pytest.approx(1 - 15 / 6)
    assert "test.wer_reduction_p" in found["kmeans"]
    assert "test.wer_reduction_p" not in found["dkm_full"]
    markdown = shown(graph, configs, "markdown", against="dkm_full")
    assert "relative to dkm_full; the gap is that from dkm_full to continuous." in markdown


def test_a_variant_to_compare_with_must_be_among_the_configs(tmp_path):
    configs = [config(tmp_path, name) for name in ERRORS]
    with pytest.raises(ConfigError, match="'dkm_ful' to compare with; there are: kmeans, dkm_full"):
        compare(configs, "table", Console(), against="dkm_ful")
