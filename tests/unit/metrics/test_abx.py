"""ABX errors by hand and against loops; what needs fastabx is skipped without it."""

import random

import numpy as np
import pytest
from reference import abx as reference

from pipeline.audio.utterance import Segment
from pipeline.metrics.abx import AbxPhones


def phones_of(*utterances):
    """From pairs of a speaker and the label and units of each segment."""
    phones = AbxPhones()
    for speaker, spans in utterances:
        frames = [(Segment(n, n + 1, label), units) for n, (label, units) in enumerate(spans)]
        segments = [segment for segment, units in frames for _ in units]
        units = np.array([unit for _, units in frames for unit in units], dtype=np.uint16)
        phones.add(speaker, segments, [segment.label for segment in segments], units)
    return phones


def test_phones_have_neighbours_and_the_units_of_their_frames():
    spans = [("sil", [9]), ("k", [1, 1]), ("a", [2]), ("a", [2, 3]), ("sil", [9, 9]), ("t", [4])]
    phones = phones_of(("ann", spans))
    assert phones.labels == {
        "phone": ["k", "a", "a", "t"],
        "previous": ["sil", "k", "a", "sil"],
        "next": ["a", "a", "sil", "sil"],
        "speaker": ["ann"] * 4,
    }
    assert [units.tolist() for units in phones.units] == [[1, 1], [2], [2, 3], [4]]


def test_frames_without_a_segment_are_silence():
    phones = AbxPhones()
    a = Segment(1, 2, "a")
    phones.add("ann", [None, a, None], ["sil", "a", "sil"], np.array([0, 1, 2]))
    assert phones.labels["phone"] == ["a"]
    assert phones.labels["previous"] == phones.labels["next"] == ["sil"]
    phones.add("ann", [], [], np.array([], dtype=np.uint16))
    assert len(phones.units) == 1


def test_no_phone_has_no_errors():
    assert AbxPhones().errors() == {}


def word(before, phone, units, after):
    return [("sil", [9]), (before, [7]), (phone, units), (after, [8]), ("sil", [9])]


def test_a_case_by_hand():
    """k?t of one speaker: a is unit 0, 0 and 1, o is 1 and 1.

    x = a, b = o: of six pairs (a, x), two find x = 0 nearer to a = 0 than to 1, errors 0; two have
    x = 0, a = 1: a tie; two have x = 1 and a = 0: errors 1. So 0.5. x = o, b = a: of two pairs, each
    against a = 0, 0 (errors 0) and 1 (a tie): 1/6. The mean is 1/3.
    """
    pytest.importorskip("fastabx")
    spans = [("a", [0]), ("a", [0, 0]), ("a", [1]), ("o", [1, 1, 1]), ("o", [1])]
    words = [("ann", word("k", phone, units, "t")) for phone, units in spans]
    errors = phones_of(*words).errors()
    assert errors["abx_within_speaker"] == pytest.approx(1 / 3)
    assert "abx_across_speakers" not in errors
    assert "abx_across_speakers_any_context" not in errors


def test_perfect_units_make_no_error_and_one_unit_for_all_leaves_chance():
    pytest.importorskip("fastabx")
    names = ("abx_within_speaker", "abx_across_speakers")
    for unit_of, expected in (({"a": 0, "o": 1}, 0.0), ({"a": 5, "o": 5}, 0.5)):
        words = [
            (speaker, word("k", phone, [unit_of[phone]] * frames, "t"))
            for speaker in ("ann", "bob")
            for phone in "ao"
            for frames in (1, 3)
        ]
        errors = phones_of(*words).errors()
        assert [errors[name] for name in names] == [expected] * 2


OPTIONS = {
    "phone": "aoe",
    "previous": "k",
    "next": "tp",
    "speaker": ("ann", "bob"),
    "unit": (0, 1, 2),
}


@pytest.mark.parametrize("seed", range(3))
def test_the_errors_are_those_of_loops(seed):
    """No vowel of a speaker is there more than ten times, so that nothing is left out by chance."""
    pytest.importorskip("fastabx")
    chance = random.Random(seed)  # noqa: S311
    rows, utterances = [], []
    for _ in range(30):
        row = {name: chance.choice(options) for name, options in OPTIONS.items()}
        units = [row["unit"]] * chance.randrange(1, 4)
        rows.append(row)
        utterances.append((row["speaker"], word(row["previous"], row["phone"], units, row["next"])))
    for row in list(rows):
        rows += [
            {**row, "phone": row["previous"], "previous": "sil", "next": row["phone"], "unit": 7},
            {**row, "phone": row["next"], "previous": row["phone"], "next": "sil", "unit": 8},
        ]
    errors = phones_of(*utterances).errors()
    for kind, across in (("within_speaker", False), ("across_speakers", True)):
        for context, same_context in (("", True), ("_any_context", False)):
            expected = reference.abx_error(rows, same_context=same_context, across=across)
            assert errors[f"abx_{kind}{context}"] == pytest.approx(expected, abs=1e-6)
