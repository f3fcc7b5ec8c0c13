"""Units as subwords: what a text of units is cut into, with and without chance."""

import copy
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.config import TokenAsr
from pipeline.units.subwords import FIRST_CHARACTER, UNKNOWN, SubwordError, Subwords

TESTS = Path(__file__).parents[2]

WORDS = ([1, 2, 3], [4, 5], [6, 7, 8, 9], [1, 9], [3])


def utterance(seed, num_words=40):
    """Units of which each lasts one to three frames, as words of units have them."""
    generator = np.random.default_rng(seed)
    units = [unit for word in generator.integers(0, len(WORDS), num_words) for unit in WORDS[word]]
    return np.repeat(units, generator.integers(1, 4, len(units))).astype(np.uint16)


UTTERANCES = [utterance(seed) for seed in range(30)]


def make(kind="bpe", size=20, sampling=0.3, *, deduplicate=True):
    settings = {"kind": kind, "vocabulary_size": size, "sampling": sampling}
    section = TokenAsr.model_validate({"deduplicate": deduplicate, "subwords": settings})
    return Subwords.train(section, UTTERANCES)


def runs(units):
    return [int(unit) for i, unit in enumerate(units) if i == 0 or unit != units[i - 1]]


def units_of(subwords, ids):
    """The units that the ids stand for."""
    pieces = [subwords._processor.id_to_piece(int(i)) for i in ids]
    return [ord(character) - FIRST_CHARACTER for character in "".join(pieces)]


def units_of_each(subwords):
    return [units_of(subwords, [i]) for i in range(1, len(subwords))]


def merged(subwords, units):
    """BPE step by step (Sennrich et al., 2016): of all neighbours, join the pair that was first."""
    ranks = {subwords._processor.id_to_piece(i): i for i in range(1, len(subwords))}
    parts = [chr(FIRST_CHARACTER + unit) for unit in units]
    while True:
        pairs = [left + right for left, right in pairwise(parts)]
        known = [(ranks[pair], i) for i, pair in enumerate(pairs) if pair in ranks]
        if not known:
            return [ranks[part] for part in parts]
        _, first = min(known)
        parts[first : first + 2] = [parts[first] + parts[first + 1]]


def test_bpe_joins_what_the_step_by_step_rule_joins():
    subwords = make()
    for units in UTTERANCES[:10]:
        assert subwords.encode(units).tolist() == merged(subwords, runs(units))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_whatever_is_drawn_stands_for_the_same_units(kind):
    subwords = make(kind)
    assert len(subwords) == 21
    best = subwords.encode(UTTERANCES[0])
    drawn = [subwords.encode(UTTERANCES[0], seed) for seed in range(20)]
    assert {tuple(units_of(subwords, ids)) for ids in (best, *drawn)} == {
        tuple(runs(UTTERANCES[0]))
    }
    assert len(best) < len(runs(UTTERANCES[0]))
    assert len({tuple(ids) for ids in drawn}) > 10
    assert all(UNKNOWN not in ids for ids in drawn)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_draw_depends_on_its_seed_alone(kind):
    subwords = make(kind)
    first = [subwords.encode(units, 7).tolist() for units in UTTERANCES]
    subwords.encode(UTTERANCES[3], 11)
    assert first == [make(kind).encode(units, 7).tolist() for units in UTTERANCES]
    assert subwords.encode(UTTERANCES[0], 8).tolist() != first[0]


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_another_process_draws_the_same(kind):
    """SentencePiece's own sampling does not: a training that resumes would see other subwords."""
    program = (
        "from unit.units.test_subwords import UTTERANCES, make\n"
        f"print(*make('{kind}').encode(UTTERANCES[0], 8))"
    )
    here = make(kind).encode(UTTERANCES[0], 8).tolist()
    for hash_seed in ("1", "2"):
        there = subprocess.run(
            [sys.executable, "-c", program],
            env={
                **os.environ,
                "PYTHONPATH": f"{TESTS.parent}:{TESTS}",
                "PYTHONHASHSEED": hash_seed,
            },
            capture_output=True,
            text=True,
            check=True,
        )
        assert list(map(int, there.stdout.split())) == here


def test_dropout_leaves_out_the_share_of_merges_that_it_says():
    for sampling in (0.2, 0.6):
        subwords = make(size=10, sampling=sampling)  # nine units and one pair
        [pair] = (units for units in units_of_each(subwords) if len(units) == 2)
        lengths = [len(subwords.encode(pair, seed)) for seed in range(2000)]
        assert set(lengths) == {1, 2}
        assert np.mean(lengths) - 1 == pytest.approx(sampling, abs=0.04)


def test_no_sampling_always_takes_the_best():
    subwords = make(sampling=0)
    assert subwords.encode(UTTERANCES[0], 3).tolist() == subwords.encode(UTTERANCES[0]).tolist()


def test_single_units_count_from_one_and_what_training_has_not_is_unknown():
    subwords = make("none")
    assert len(subwords) == 10
    assert subwords.encode([3, 3, 9, 9, 9, 3]).tolist() == [3, 9, 3]
    assert subwords.encode([3, 200, 65535, 1]).tolist() == [3, UNKNOWN, UNKNOWN, 1]
    assert make("none", deduplicate=False).encode([3, 3, 9]).tolist() == [3, 3, 9]


def test_unknown_units_are_unknown_to_sentencepiece_too():
    ids = make().encode([4, 5, 65535, 4, 5]).tolist()
    assert ids[0] == ids[-1] != UNKNOWN
    assert UNKNOWN in ids


@pytest.mark.parametrize("kind", ["none", "bpe", "unigram"])
def test_saved_subwords_are_the_same(kind, tmp_path):
    subwords = make(kind)
    subwords.save(tmp_path)
    loaded = Subwords.load(tmp_path)
    assert len(loaded) == len(subwords)
    for seed in (None, 5):
        assert (
            loaded.encode(UTTERANCES[1], seed).tolist()
            == subwords.encode(UTTERANCES[1], seed).tolist()
        )


@pytest.mark.parametrize("deduplicate", [True, False])
@pytest.mark.parametrize("kind", ["none", "bpe", "unigram"])
def test_ids_become_the_units_that_they_were(kind, deduplicate):
    subwords = make(kind, deduplicate=deduplicate)
    for units in UTTERANCES[:5]:
        expected = runs(units) if deduplicate else units.tolist()
        for seed in (None, 3):
            assert subwords.decode(subwords.encode(units, seed).tolist()).tolist() == expected


@pytest.mark.parametrize("kind", ["none", "bpe"])
def test_a_copy_for_a_process_that_reads_ahead_draws_the_same(kind):
    subwords = make(kind)
    copied = copy.deepcopy(subwords)  # by the protocol of pickle
    assert copied.encode(UTTERANCES[1], 5).tolist() == subwords.encode(UTTERANCES[1], 5).tolist()


def test_an_hour_in_one_utterance_is_not_left_out():
    """SentencePiece skips lines of more than 4,192 bytes unless it is told otherwise."""
    units = np.concatenate([utterance(seed) for seed in range(100)])
    section = TokenAsr.model_validate({"subwords": {"vocabulary_size": 20}})
    assert len(Subwords.train(section, [units])) == 21


@pytest.mark.parametrize(
    ("size", "cure"), [(5, "to 9 or more, one for each unit"), (100_000, r"to \d+ or less")]
)
def test_a_vocabulary_that_cannot_be_made_is_refused_with_one_that_can(size, cure):
    with pytest.raises(SubwordError, match=f"set subwords.vocabulary_size {cure}"):
        make(size=size)


def test_a_split_without_units_is_refused():
    with pytest.raises(SubwordError, match="no units"):
        Subwords.train(TokenAsr(), [[], []])
