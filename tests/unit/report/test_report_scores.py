"""The comparison as pictures and as a table."""

from pipeline.metrics.comparison import Comparison
from pipeline.report.scores import scores

ROWS = {
    "kmeans": {
        "test.wer": 0.4,
        "test.wer_low": 0.3,
        "test.wer_high": 0.5,
        "test.cer": 0.2,
        "test.resynthesis_wer": 0.6,
        "test.recordings_wer": 0.1,
    },
    "dkm_full": {"test.wer": 0.3, "unseen.wer": 0.35},
}


def test_a_picture_for_each_split_and_score_that_there_is():
    found = scores(Comparison(ROWS, ("test", "unseen"), ("a note",)))
    test, resynthesis, unseen = found.pictures
    assert "WER (%) on test, lower is better: kmeans 40.0 [30.0, 50.0], dkm_full 30.0." in test
    assert "resynthesis WER (%) on test" in resynthesis
    assert "WER (%) on unseen, lower is better: kmeans –, dkm_full 35.0." in unseen  # noqa: RUF001
    assert found.notes == ("a note",)


def test_the_resynthesis_stands_beside_its_bounds():
    _, resynthesis = scores(Comparison(ROWS, ("test",))).pictures
    assert ">recordings</text>" in resynthesis
    assert ">copy-synthesis</text>" not in resynthesis


def test_the_table_has_the_main_scores_and_another_all():
    found = scores(Comparison(ROWS, ("test",)))
    titles = [
        [line[0] for group in groups for line in group] for groups in (found.main, found.everything)
    ]
    assert "CER (%)" not in titles[0]
    assert "CER (%)" in titles[1]
    assert found.main[0][0] == ("WER (%)", "test", "40.0 [30.0, 50.0]", "30.0")


def test_nothing_scored_gives_no_picture():
    assert scores(Comparison({"kmeans": {}}, ("test",))).pictures == []
