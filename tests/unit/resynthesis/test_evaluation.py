import numpy as np
import pytest
import torch

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import Utterance
from pipeline.config import Istft, Vocoder
from pipeline.resynthesis.evaluation import evenly_spread, who_speaks
from pipeline.resynthesis.likeness import likeness
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.voice import voice_of

RATE = 16000


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(1, [0]), (3, [0, 2, 4]), (6, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])],
)
def test_utterances_are_chosen_from_all_over_the_corpus(count, chosen):
    utterances = [Utterance(str(i), "test", "a.wav", 0.0, 1.0, "s", "a") for i in range(6)]
    assert [int(utterance.utt_id) for utterance in evenly_spread(utterances, count)] == chosen


def noise(seed, amplitude=0.1):
    made = amplitude * np.random.default_rng(seed).standard_normal(RATE)
    return made.astype(np.float32)


@pytest.fixture
def split(tmp_path):
    """Two utterances of a speaker nobody has heard, one of another, one of a training speaker."""
    utterances = []
    for number, speaker in enumerate(["eve", "eve", "fay", "ann"]):
        path = tmp_path / f"{number}.flac"
        write_audio(path, noise(number), RATE)
        utterances.append(Utterance(str(number), "test", str(path), 0.0, 1.0, speaker, ""))
    return utterances


def vocoder(speaker):
    torch.manual_seed(0)
    settings = Vocoder(istft=Istft(dim=8, blocks=1), unit_dim=4, speaker_dim=4, speaker=speaker)
    return UnitVocoder(settings, 5, ["ann", "bob"])


def test_an_unheard_speaker_is_spoken_by_another_utterance(split):
    speakers = [who_speaks(vocoder("encoder"), each, split) for each in split]
    assert speakers[0] == pytest.approx(voice_of(noise(1), RATE), abs=1e-2)
    assert speakers[1] == pytest.approx(voice_of(noise(0), RATE), abs=1e-2)
    assert speakers[2:] == [None, "ann"]


def test_a_table_has_one_voice_for_all_it_has_not_heard(split):
    speakers = [who_speaks(vocoder("table"), each, split) for each in split]
    assert speakers == [None, None, None, "ann"]


def test_the_level_is_no_difference():
    shares = likeness(noise(0), noise(0, amplitude=0.001), RATE)
    assert shares["mcd_db"].value == pytest.approx(0, abs=1e-3)
