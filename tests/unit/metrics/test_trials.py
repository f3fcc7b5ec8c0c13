"""The trials of a variant: which is best, and how they are shown."""

from rich.console import Console

from pipeline.metrics.trials import LOSS, WER, Trial, Trials


def trial(number, wer=None, loss=1.0, error="", **settings):
    scores = None if wer is None else {WER: wer, LOSS: loss}
    return Trial(number, settings, (f"digest{number}",), scores, error)


TRIALS = Trials(
    "kmeans",
    [
        trial(1, 0.25, 0.9),
        trial(2, None, error="no heads:\n  3 of 16", rate=0.1),
        trial(3, 0.125, 0.8, rate=0.2, sigma={"value": 5}),
        trial(4, 0.125, 0.7, rate=0.3),
        trial(5, 0.125, 0.7, rate="a|b"),
    ],
)


def test_the_lowest_wer_is_best_then_the_lowest_loss_then_the_earlier():
    assert [each.number for each in TRIALS.ranked] == [4, 5, 3, 1, 2]
    assert TRIALS.best.number == 4
    assert TRIALS.summary() == (
        "kmeans: trial 4 is the best of 5 by the word error rate on the validation split: "
        "12.5 % (ASR loss 0.700); as it stood: 25.0 %"
    )


def test_without_scores_there_is_no_best_one():
    failed = Trials("kmeans", [trial(1, error="no"), trial(2, error="no")])
    assert failed.best is None
    assert failed.summary() == "kmeans: none of 2 trials has a score"


def test_the_markdown_has_a_row_for_each_with_the_reason_of_a_failure():
    assert TRIALS.as_markdown().splitlines() == [
        "| trial | WER (%) | ASR loss | rate | sigma | why it failed |",
        "| ---: | ---: | ---: | --- | --- | --- |",
        "| 4 | 12.5 | 0.700 | 0.3 | – |  |",  # noqa: RUF001
        "| 5 | 12.5 | 0.700 | a&#124;b | – |  |",  # noqa: RUF001
        '| 3 | 12.5 | 0.800 | 0.2 | {"value": 5} |  |',
        "| 1 | 25.0 | 0.900 | – | – |  |",  # noqa: RUF001
        "| 2 | – | – | 0.1 | – | no heads: 3 of 16 |",  # noqa: RUF001
    ]
    assert "why" not in Trials("dkm", [trial(1, 0.5)]).as_markdown()


def test_the_table_shows_brackets_of_keys_as_they_are():
    keyed = Trials("dkm [x]", [Trial(1, {"phases[].rate": 1}, (), {WER: 0.5, LOSS: 1.0})])
    console = Console(width=100)
    with console.capture() as captured:
        console.print(keyed.table())
    assert "phases[].rate" in captured.get()
    assert "dkm [x]" in captured.get()


def test_the_record_is_unrounded_and_in_the_order_of_the_draws():
    record = TRIALS.record()
    assert (record["variant"], record["best"]) == ("kmeans", 4)
    assert record["trials"][2] == {
        "number": 3,
        "settings": {"rate": 0.2, "sigma": {"value": 5}},
        "digests": ("digest3",),
        "scores": {WER: 0.125, LOSS: 0.8},
        "error": "",
    }
