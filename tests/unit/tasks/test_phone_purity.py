"""The stage on the units and alignments of a few frames: its scores with and without silence."""

from tasks.phone_purity import STAGE


def test_scores_are_those_without_silence_and_those_with_it(context_of):
    labels = ["sil", "a", "a", "b", None, "b", "c", "sil", "sil", "spn"]
    context = context_of([0, 0, 0, 0, 1, 1, 1, 2, 2, 2], labels, [])
    scores = STAGE.run(context)
    assert {name: round(value, 6) for name, value in scores.items() if "pnmi_" not in name} == {
        "test.phone_purity": 0.6,
        "test.cluster_purity": 0.8,
        "test.pnmi": 0.375150,
        "test.phone_purity_with_silence": 0.6,
        "test.cluster_purity_with_silence": 0.7,
        "test.units_per_phone": 1.0,
    }
    table = context.output.read_table("counts-test.parquet")
    assert dict(zip(*table.to_pydict().values(), strict=True)) == {
        "a": [2, 0, 0],
        "b": [1, 1, 0],
        "c": [0, 1, 0],
        "sil": [1, 1, 3],
    }
    assert "purity-test.png" in context.output.names("")


def test_units_per_phone_are_runs_within_a_segment(context_of):
    """Two in `a`, one in `b`, three in the other `a`."""
    labels = ["sil", "a", "a", "a", "b", "b", "sil", "a", "a", "a"]
    scores = STAGE.run(context_of([0, 1, 2, 2, 2, 2, 0, 0, 1, 0], labels, []))
    assert scores["test.units_per_phone"] == 2.0


def test_an_alignment_of_silence_alone_gives_no_scores(context_of):
    sent = []
    assert STAGE.run(context_of([0, 1], ["sil", None], sent)) == {}
    assert sent == ["has no purity for test: no utterance has aligned phones"]
