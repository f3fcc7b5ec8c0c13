import random

import pytest
from reference import purity as reference

from pipeline.config import Purity
from pipeline.metrics.purity import (
    JointCounts,
    cluster_purity,
    one_silence,
    phone_purity,
    pnmi,
    scores,
)


def counted(pairs, num_units):
    counts = JointCounts(num_units)
    counts.add([phone for phone, _ in pairs], [unit for _, unit in pairs])
    return counts


def test_golden_case():
    counts = counted(list(zip("aabbc", (0, 0, 0, 1, 1), strict=True)), 2)
    assert round(phone_purity(counts), 6) == 0.6
    assert round(cluster_purity(counts), 6) == 0.8
    assert round(pnmi(counts), 6) == 0.375150


@pytest.mark.parametrize("seed", range(5))
def test_the_measures_are_those_of_dictionary_loops(seed):
    chance = random.Random(seed)  # noqa: S311
    units = [chance.randrange(9) for _ in range(400)]
    pairs = [("aeiou"[chance.choice((unit % 5, chance.randrange(5)))], unit) for unit in units]
    counts = counted(pairs, 12)
    assert phone_purity(counts) == pytest.approx(reference.phone_purity(pairs), rel=1e-12)
    assert cluster_purity(counts) == pytest.approx(reference.cluster_purity(pairs), rel=1e-12)
    assert pnmi(counts) == pytest.approx(reference.pnmi(pairs), rel=1e-10)


def test_utterances_add_up():
    counts = JointCounts(3)
    counts.add(["b", "a"], [2, 0])
    counts.add([], [])
    counts.add(["b", "b", "c"], [2, 1, 1])
    assert counts.phones == ["a", "b", "c"]
    assert counts.matrix.tolist() == [[1, 0, 0], [0, 1, 2], [0, 1, 0]]


def test_a_unit_of_its_own_for_each_phone_is_perfect():
    counts = counted([("a", 3), ("b", 1), ("b", 1)], 4)
    assert phone_purity(counts) == cluster_purity(counts) == 1
    assert pnmi(counts) == pytest.approx(1)


def test_one_unit_for_everything_tells_nothing():
    counts = counted([("a", 0), ("b", 0)], 1)
    assert phone_purity(counts) == 0.5
    assert cluster_purity(counts) == 1
    assert pnmi(counts) == pytest.approx(0)


def test_one_phone_alone_leaves_nothing_to_tell():
    assert pnmi(counted([("a", 0), ("a", 1)], 2)) == 0


@pytest.mark.parametrize("measure", [phone_purity, cluster_purity, pnmi])
def test_no_frames_are_rejected(measure):
    with pytest.raises(ValueError, match="no frames were counted"):
        measure(JointCounts(4))


def test_what_does_not_fit_is_rejected():
    counts = JointCounts(2)
    with pytest.raises(ValueError, match="2 labels for units of shape"):
        counts.add(["a", "b"], [0])
    with pytest.raises(ValueError, match="between 0 and 1, got 0 to 2"):
        counts.add(["a", "b"], [0, 2])
    with pytest.raises(ValueError, match="between 0 and 1, got -1 to 0"):
        counts.add(["a", "b"], [0, -1])
    with pytest.raises(ValueError, match="num_units"):
        JointCounts(0)


def test_all_that_means_silence_is_one_label():
    settings = Purity(silence_labels=("", "pau"))
    assert one_silence(["pau", "AA", "", "t"], settings) == ["sil", "AA", "sil", "t"]


SPEECH = list(zip("aabbc", (0, 0, 0, 1, 1), strict=True))
SILENCES = [("sil", unit) for unit in (0, 1, 2, 2, 2)]


@pytest.mark.parametrize("silence", ["exclude", "include"])
def test_silence_counts_in_scores_that_say_so_and_elsewhere_as_configured(silence):
    found = scores(counted(SPEECH + SILENCES, 3), Purity(silence=silence))
    # Of ten frames unit 0 has two of `a`, unit 1 one of any of three, unit 2 three of silence.
    assert found["phone_purity_with_silence"] == pytest.approx(0.6)
    assert found["cluster_purity_with_silence"] == pytest.approx(0.7)
    assert found["pnmi_with_silence"] == pytest.approx(reference.pnmi(SPEECH + SILENCES))
    as_configured = [found[name] for name in ("phone_purity", "cluster_purity", "pnmi")]
    if silence == "exclude":
        assert [round(value, 6) for value in as_configured] == [0.6, 0.8, 0.375150]
    else:
        assert as_configured == [value for name, value in found.items() if "_with_" in name]


@pytest.mark.parametrize("pairs", [[], SILENCES])
def test_without_speech_there_are_no_scores(pairs):
    assert scores(counted(pairs, 3), Purity(silence="include")) == {}
