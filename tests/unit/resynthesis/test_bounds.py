import pytest
from support import tone_utterances

from pipeline.audio.utterance import Utterance
from pipeline.metrics.utterance_scores import Share
from pipeline.resynthesis import bounds
from pipeline.resynthesis.bounds import Bounds, others_in_place


def said_by(*speakers):
    return [
        Utterance(f"u{index}", "test", "a.wav", 0, 1, speaker, "a")
        for index, speaker in enumerate(speakers)
    ]


@pytest.mark.parametrize(
    ("speakers", "chosen", "others"),
    [
        ("abab", (0, 1, 2, 3), (2, 3, 0, 1)),
        ("aabbb", (1, 4), (0, 2)),
        ("abc", (0, 1, 2), (1, 2, 0)),
        ("a", (0,), (0,)),
    ],
)
def test_another_utterance_is_the_next_of_the_speaker_or_of_anybody(speakers, chosen, others):
    among = said_by(*speakers)
    found = others_in_place([among[index] for index in chosen], among)
    assert [among.index(each) for each in found] == list(others)


def test_bounds_are_in_their_order(tmp_path):
    first, second = tone_utterances(tmp_path, "test", 2)
    found = Bounds((), 16000)(first, second)
    copy, other = (found.shares[f"{name}_mcd_db"].value for name in (bounds.COPY, bounds.OTHER))
    assert 0 < copy < other
    assert len(found.copy) == round(first.duration * 16000)
    assert not [name for name in found.shares if name.startswith("recordings")]


def test_measures_are_of_copy_and_other_and_of_the_recording_if_they_need_none(
    tmp_path, monkeypatch
):
    def open_measures(names):
        return lambda _recording, made: {name: Share(float(len(made))) for name in names}

    monkeypatch.setattr(bounds, "open_measures", open_measures)
    first, second = tone_utterances(tmp_path, "valid", 2)
    shares = Bounds(("dnsmos", "similarity"), 16000)(first, second).shares
    lengths = [round(each.duration * 16000) for each in (first, second)]
    assert shares["recordings_dnsmos"].value == shares["copy_synthesis_similarity"].value
    assert shares["recordings_dnsmos"].value == lengths[0]
    assert shares["other_utterance_similarity"].value == lengths[1]
    assert "recordings_similarity" not in shares
