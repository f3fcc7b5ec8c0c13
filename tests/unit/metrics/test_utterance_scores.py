import math

import numpy as np
import pytest

from pipeline.metrics import utterance_scores
from pipeline.metrics.significance import interval, resampled_sums
from pipeline.metrics.utterance_scores import ScoredUtterance, Share, intervals, totals
from pipeline.storage.artifacts import Artifact


def scored(*shares, speakers="aabb"):
    return [
        ScoredUtterance(f"u{index}", "test", speakers[index], each)
        for index, each in enumerate(shares)
    ]


WER = scored(*({"wer": Share(errors, words)} for errors, words in ((1, 4), (0, 2), (5, 5), (2, 3))))


def test_a_rate_divides_sums_and_a_mean_has_weights_of_one():
    assert totals(WER) == {"wer": 8 / 14}
    assert totals(scored({"db": Share(2.0)}, {"db": Share(5.0)})) == {"db": 3.5}


def test_what_is_not_a_number_counts_nowhere(tmp_path):
    rows = scored({"f0": Share(math.nan)}, {"f0": Share(3.0)}, {"f0": Share(5.0)}, {})
    assert totals(rows) == utterance_scores.write(Artifact(str(tmp_path)), rows) == {"f0": 4.0}
    assert intervals(rows) == intervals(rows[1:3])


def test_a_score_without_weight_is_missing():
    """Whisper's normalization leaves nothing of a reference such as "uh"."""
    rows = scored({"wer": Share(1, 0)}, {"wer": Share(0, 0)})
    assert totals(rows) == intervals(rows) == {}


def test_an_interval_resamples_speakers_and_utterances():
    found = intervals(WER)
    sums_R2 = resampled_sums(np.array([(1, 4), (0, 2), (5, 5), (2, 3)]), np.array(list("aabb")))
    low, high = interval(sums_R2[:, 0] / sums_R2[:, 1])
    assert found == {"wer_low": low, "wer_high": high}
    assert low < 8 / 14 < high


def test_one_utterance_tells_of_no_other():
    assert intervals(WER[:1]) == {}


def test_a_draw_without_weight_tells_nothing():
    rows = scored({"wer": Share(1, 0)}, {"wer": Share(1, 2)}, speakers="ab")
    assert intervals(rows) == {"wer_low": 0.5, "wer_high": 1.0}


def test_what_is_written_is_read(tmp_path):
    output = Artifact(str(tmp_path))
    rows = scored({"wer": Share(1, 4), "db": Share(2.5)}, {"wer": Share(0, 1)})
    assert utterance_scores.write(output, rows) == pytest.approx({"wer": 0.2, "db": 2.5})
    assert utterance_scores.read(output) == rows
