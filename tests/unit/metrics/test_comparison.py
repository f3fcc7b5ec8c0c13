import csv
import io
import json
import math

import pytest
from rich.console import Console

from pipeline.metrics import comparison
from pipeline.metrics.comparison import Comparison
from pipeline.storage.artifacts import artifact

ROWS = {
    "dkm_full": {
        "test.wer": 0.30,
        "test.phone_purity": 0.61234,
        "test.phone_purity_with_silence": 0.58111,
        "test.mcd_db": 5.128,
        "training_seconds": 286.4,
        "train.perplexity": 2.104,
        "train.noisy_share": 0.2345,
        "test.substitutions": 12.0,
    },
    "kmeans": {
        "test.wer": 0.40,
        "test.cer": 0.2,
        "test.codebook_usage": 0.5,
        "test.pnmi": math.nan,
    },
    "continuous": {"training_seconds": 10.0},
}


def rendered(rows, splits):
    console = Console(file=io.StringIO(), width=200)
    known = comparison.with_reductions(rows, splits)
    console.print(comparison.comparison_table(Comparison(known, splits), show_all=True))
    return console.file.getvalue()


def markdown_cells(rows, splits):
    known = comparison.with_reductions(rows, splits)
    lines = comparison.as_markdown(Comparison(known, splits), show_all=True).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return {(line[0], line[1]): line[2:] for line in cells}


def finished(folder, stage, scores):
    output = artifact(str(folder), stage, "00")
    output.write_json("metrics.json", scores)
    output.finish({})
    return output


def test_scores_of_all_whole_stages_come_together(tmp_path):
    outputs = {
        "fit_codebook": finished(tmp_path, "fit_codebook", {"inertia": 3.0, "seconds": 1.0}),
        "evaluate_asr": finished(tmp_path, "evaluate_asr", {"test.wer": 0.5, "seconds": 2.0}),
    }
    half = artifact(str(tmp_path), "phone_purity", "00")
    half.write_json("metrics.json", {"test.pnmi": 0.4})
    missing = artifact(str(tmp_path), "train_vocoder", "00")
    assert comparison.scores({**outputs, "phone_purity": half, "train_vocoder": missing}) == {
        "inertia": 3.0,
        "seconds": 1.0,
        "test.wer": 0.5,
        "evaluate_asr.seconds": 2.0,
    }


def test_wer_reduction_is_relative_to_kmeans_wherever_it_stands():
    reductions = comparison.with_reductions(ROWS, ["test"])
    assert reductions["dkm_full"]["test.wer_reduction"] == pytest.approx(0.25)
    assert reductions["kmeans"]["test.wer_reduction"] == 0.0
    assert "test.wer_reduction" not in reductions["continuous"]


def test_wer_reduction_without_kmeans_is_relative_to_the_first_variant():
    rows = {"b": {"test.wer": 0.2}, "a": {"test.wer": 0.3}}
    assert comparison.with_reductions(rows, ["test"])["a"]["test.wer_reduction"] == pytest.approx(
        -0.5
    )
    assert comparison.captions(rows) == ("WER reduction and p are relative to b.",)


def test_another_variant_may_be_what_others_are_compared_with():
    rows = {"kmeans": {"test.wer": 0.4}, "a": {"test.wer": 0.2}, "b": {"test.wer": 0.1}}
    known = comparison.with_reductions(rows, ["test"], "a")
    reductions = [row["test.wer_reduction"] for row in known.values()]
    assert reductions == pytest.approx([-1.0, 0.0, 0.5])
    assert comparison.captions(rows, "a") == ("WER reduction and p are relative to a.",)


def test_the_gap_is_that_to_fine_tuned_continuous_features():
    rows = {
        "kmeans": {"test.wer": 0.4, "unseen.wer": 0.5},
        "dkm_full": {"test.wer": 0.25, "unseen.wer": 0.2},
        "continuous": {"test.wer": 0.3, "unseen.wer": 0.1},
    }
    known = comparison.with_reductions(rows, ["test", "unseen"])
    assert [row["unseen.gap_closed"] for row in known.values()] == pytest.approx([0, 0.75, 1])
    assert known["dkm_full"]["test.gap_closed"] == pytest.approx(1.5)
    assert "the gap is that from kmeans to continuous." in comparison.captions(rows)[0]
    rows["continuous_full"] = {"test.wer": 0.2}
    known = comparison.with_reductions(rows, ["test", "unseen"])
    assert known["dkm_full"]["test.gap_closed"] == pytest.approx(0.75)
    # Not evaluated there: a gap to another variant would pass for this one.
    assert not any("unseen.gap_closed" in row for row in known.values())
    assert "the gap is that from kmeans to continuous_full." in comparison.captions(rows)[0]


@pytest.mark.parametrize("best", [0.4, 0.5])
def test_no_gap_or_a_negative_one_is_a_dash(best):
    rows = {"kmeans": {"test.wer": 0.4}, "a": {"test.wer": 0.3}, "continuous": {"test.wer": best}}
    assert markdown_cells(rows, ["test"])["gap closed (%)", "test"] == [comparison.MISSING] * 3


def test_a_faultless_baseline_has_no_reduction():
    rows = {"kmeans": {"test.wer": 0.0}, "a": {"test.wer": 0.3}}
    assert comparison.with_reductions(rows, ["test"]) == rows


def test_markdown_shows_each_score_in_its_unit():
    cells = markdown_cells(ROWS, ["test"])
    assert cells["score", "split"] == ["dkm_full", "kmeans", "continuous"]
    assert cells["WER (%)", "test"] == ["30.0", "40.0", "–"]  # noqa: RUF001 - see comparison.MISSING
    assert cells["WER reduction (%)", "test"][:2] == ["25.0", "0.0"]
    assert cells["phone purity", "test"][0] == "0.612"
    assert cells["phone purity with silence", "test"][0] == "0.581"
    assert cells["codebook usage (%)", "test"][1] == "50.0"
    assert cells["mel-cepstral distortion (dB)", "test"][0] == "5.13"
    assert cells["perplexity of p in training", ""][0] == "2.10"
    assert cells["noisy choices in training (%)", ""][0] == "23.4"
    assert cells["training (s)", ""] == ["286", "–", "10"]  # noqa: RUF001 - see comparison.MISSING


def test_a_score_that_is_no_number_shows_as_missing():
    assert markdown_cells(ROWS, ["test"])["PNMI", "test"] == [comparison.MISSING] * 3


def test_a_score_that_no_variant_has_gets_no_line_unless_it_is_a_main_one():
    cells = markdown_cells({"a": {"test.pnmi": 0.5, "test.abx_within_speaker": 0.18}}, ["test"])
    assert cells["ABX error within speaker (%)", "test"] == ["18.0"]
    assert ("ABX error across speakers (%)", "test") not in cells
    assert ("training (s)", "") not in cells
    assert cells["phone purity", "test"] == [comparison.MISSING]


def test_every_split_has_its_lines():
    rows = {"a": {"seen.wer": 0.1, "unseen.wer": 0.2}}
    cells = markdown_cells(rows, ["seen", "unseen"])
    assert (cells["WER (%)", "seen"], cells["WER (%)", "unseen"]) == (["10.0"], ["20.0"])


def test_the_terminal_table_says_the_same_as_markdown():
    lines = [line.strip("│┃").split("│") for line in rendered(ROWS, ["test"]).splitlines()]
    shown = {
        (line[0].strip(), line[1].strip()): [*map(str.strip, line[2:])]
        for line in lines
        if len(line) == 5
    }
    expected = markdown_cells(ROWS, ["test"])
    del expected["score", "split"], expected["---", "---"]
    assert shown == expected


def test_names_are_no_markup():
    rows = {"[red]a|b": {"test.wer": 0.5}}
    assert "[red]a|b" in rendered(rows, ["test"])
    assert "[red]a&#124;b" in comparison.as_markdown(Comparison(rows, ("test",)))


def test_nothing_to_compare_is_an_empty_table():
    assert "WER" in rendered({}, ["test"])
    assert comparison.with_reductions({}, ["test"]) == {}
    assert comparison.captions({}) == ()


def test_json_holds_every_score_unrounded():
    found = json.loads(comparison.as_json(comparison.with_reductions(ROWS, ["test"])))
    assert found["dkm_full"]["test.phone_purity"] == 0.61234
    assert found["dkm_full"]["test.substitutions"] == 12.0
    assert "test.pnmi" not in found["kmeans"]


def test_csv_holds_every_score_and_leaves_missing_ones_empty():
    lines = {line[0]: line[1:] for line in csv.reader(io.StringIO(comparison.as_csv(ROWS)))}
    assert lines["score"] == ["dkm_full", "kmeans", "continuous"]
    assert lines["test.phone_purity"] == ["0.61234", "", ""]
    assert lines["test.wer"] == ["0.3", "0.4", ""]


def test_the_papers_variants_come_in_its_order_and_others_behind_them():
    named = ["mine", "continuous_full", "continuous", "finetuned_kmeans", "kmeans", "also_mine"]
    named += ["dkm_full", "dkm_frozen_codebook", "dkm_layers", "dkm_codebook"]
    assert sorted(named, key=comparison.place) == [
        "kmeans",
        "finetuned_kmeans",
        "dkm_codebook",
        "dkm_layers",
        "dkm_frozen_codebook",
        "dkm_full",
        "continuous",
        "continuous_full",
        "mine",
        "also_mine",
    ]


def test_six_scores_are_shown_unless_all_are_asked_for():
    lines = comparison.as_markdown(Comparison(ROWS, ("test",))).splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines if "| test |" in line] == [
        "WER (%)",
        "WER reduction (%)",
        "p of the reduction",
        "gap closed (%)",
        "phone purity",
        "PNMI",
    ]


def test_an_interval_stands_beside_its_score_and_p_below():
    row = {"test.wer": 0.174, "test.wer_low": 0.149, "test.wer_high": 0.2022}
    row |= {"test.wer_reduction_low": -0.17, "test.wer_reduction_high": 0.46}
    row |= {"test.wer_reduction_p": 0.00012}
    rows = {"kmeans": {"test.wer": 0.348, "test.wer_low": 0.3}, "dkm_full": row}
    cells = markdown_cells(rows, ["test"])
    assert cells["WER (%)", "test"] == ["34.8", "17.4 [14.9, 20.2]"]
    assert cells["WER reduction (%)", "test"] == ["0.0", "50.0 [-17.0, 46.0]"]
    assert cells["p of the reduction", "test"] == [comparison.MISSING, "0.0001"]


def test_the_spread_over_seeds_stands_before_the_interval():
    row = {"seeds": 3, "test.wer": 0.174, "test.wer_num_seeds": 3, "test.wer_sd": 0.0123}
    row |= {"test.pnmi": 0.5, "test.pnmi_num_seeds": 2, "test.pnmi_sd": 0.1, "test.mcd_db": 4.0}
    row |= {"test.mcd_db_num_seeds": 1, "training_seconds": 80, "training_seconds_sd": 7}
    interval = {"test.wer_low": 0.149, "test.wer_high": 0.2022}
    cells = markdown_cells({"dkm_full": row | interval}, ["test"])
    assert cells["WER (%)", "test"] == ["17.4 ± 1.2 [14.9, 20.2]"]
    assert cells["PNMI", "test"] == ["0.500 ± 0.100 (2 of 3 seeds)"]
    assert cells["mel-cepstral distortion (dB)", "test"] == ["4.00 (1 of 3 seeds)"]
    assert cells["training (s)", ""] == ["80 ± 7"]
    # Not a number of seeds, though its name is much like one.
    p = {"test.wer_reduction_p": 0.01, "test.wer_reduction_p_seeds": 0.1}
    cells = markdown_cells({"dkm_full": row | p}, ["test"])
    assert cells["p of the reduction", "test"] == ["0.0100"]
    assert cells["p, seeds relabelled", "test"] == ["0.1000"]
    assert markdown_cells({"dkm_full": row}, ["test"])["WER (%)", "test"] == ["17.4 ± 1.2"]


@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ((3, 3), "seeds of the training: 3 of each variant."),
        ((3, 1), "seeds of the training: 3 of kmeans, 1 of a."),
    ],
)
def test_how_many_seeds_there_are_is_said(seeds, said):
    rows = {"kmeans": {"seeds": seeds[0]}, "a": {"seeds": seeds[1]} if seeds[1] > 1 else {}}
    assert comparison.captions(rows)[1].endswith(said)


def test_a_reduction_that_is_unknown_or_unbounded_has_no_interval():
    rows = {
        "kmeans": {"test.wer": 0.0, "unseen.wer": 0.1},
        "a": {
            "test.wer": 0.0,
            "test.wer_reduction_low": 0.0,
            "test.wer_reduction_high": 0.0,
            "unseen.wer": 0.05,
            "unseen.wer_reduction_low": -math.inf,
            "unseen.wer_reduction_high": 0.9,
        },
    }
    cells = markdown_cells(rows, ["test", "unseen"])
    assert cells["WER reduction (%)", "test"] == [comparison.MISSING] * 2
    assert cells["WER reduction (%)", "unseen"] == ["0.0", "50.0"]


def test_notes_stand_below_the_table():
    notes = ["first note", "of [red]one"]
    assert comparison.as_markdown(Comparison(ROWS, ("test",), notes)).endswith(
        "|\n\nfirst note\n\nof [red]one\n"
    )
    console = Console(file=io.StringIO(), width=200)
    console.print(comparison.comparison_table(Comparison(ROWS, ("test",), notes)))
    assert "of [red]one" in console.file.getvalue()


def test_mlflow_gets_a_score_by_the_name_it_always_had():
    known = comparison.with_reductions(ROWS, ["test"])["dkm_full"]
    assert comparison.headline(known, ["test"]) == pytest.approx(
        {
            "test/WER in percent": 30.0,
            "test/WER reduction in percent": 25.0,
            "test/phone purity": 0.61234,
            "test/phone purity with silence": 0.58111,
            "test/mel-cepstral distortion in dB": 5.128,
            "perplexity of p in training": 2.104,
            "noisy choices in training in percent": 23.45,
            "training in s": 286.4,
        }
    )


def test_scores_of_a_users_own_stage_have_their_names_as_titles():
    rows = {
        "kmeans": {"num_pairs": 12345.0, "test.edit_rate": 0.123456, "test.edit_rate_sd": 0.01},
        "dkm": {"test.edit_rate": 0.5},
    }
    own = ("num_pairs", "test.edit_rate", "unseen.edit_rate")
    shown = comparison.as_markdown(Comparison(rows, ("test",), own=own))
    assert "| num pairs |  | 12345 | – |" in shown  # noqa: RUF001 - see comparison.MISSING
    assert "| edit rate | test | 0.1235 ± 0.01 | 0.5 |" in shown
    assert "| unseen.edit rate |  | – | – |" in shown  # noqa: RUF001


def test_a_score_of_an_own_stage_is_of_the_split_that_it_names():
    rows = {"kmeans": {"test.mean_pitch": 1.0, "test.other.mean_pitch": 2.0, "pitch": 3.0}}
    own = tuple(rows["kmeans"])
    found = Comparison(rows, ("test", "test.other"), own=own)
    lines = comparison.as_markdown(found).splitlines()
    assert [line for line in lines if "pitch" in line] == [
        "| mean pitch | test | 1 |",
        "| mean pitch | test.other | 2 |",
        "| pitch |  | 3 |",
    ]
