"""The stage on one utterance: its scores, and what it says where it has none or lacks fastabx."""

import pytest

from pipeline.errors import is_for_user
from tasks import abx


def test_the_scores_of_a_split_are_its_errors(context_of):
    """Between silences, a is unit 0 twice and b unit 1 twice: nothing is confused."""
    pytest.importorskip("fastabx")
    labels = ["sil", "a", "sil", "b", "sil", "a", "a", "sil", "b", "b"]
    scores = abx.STAGE.run(context_of([2, 0, 2, 1, 2, 0, 0, 2, 1, 1], labels, []))
    assert scores == {"test.abx_within_speaker": 0, "test.abx_within_speaker_any_context": 0}


def test_labels_of_silence_are_no_phones(context_of):
    sent = []
    assert abx.STAGE.run(context_of([0, 1, 2], ["sil", "spn", None], sent)) == {}
    assert sent == [
        "has no ABX error for test: it takes aligned phones, each of them more than once"
    ]


def test_without_fastabx_the_error_names_the_extra_before_anything_runs(monkeypatch):
    monkeypatch.setattr(abx, "find_spec", lambda _name: None)
    with pytest.raises(ValueError, match=r"pip install 'dkm-pipeline\[abx\]'") as refused:
        abx.STAGE.requires(None)
    assert is_for_user(refused.value)


def test_with_fastabx_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(abx, "find_spec", lambda name: name)
    abx.STAGE.requires(None)
