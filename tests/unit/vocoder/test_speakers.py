import numpy as np
import pytest
import torch

from pipeline.config import Istft, Vocoder
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.speakers import FARTHEST, SpeakerEncoder, SpeakerTable
from pipeline.vocoder.voice import LOG2_F0, VOICE_DIM


def voices(count, centre, seed=0):
    random = np.random.default_rng(seed)
    made = random.normal(centre, 1.0, (count, VOICE_DIM)).astype(np.float32)
    made[:, LOG2_F0] = 7.0 + 0.1 * centre
    return list(made)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = SpeakerEncoder(["ann", "bob"], 4, None)
    encoder.hear([voices(3, -2.0), voices(5, 2.0)])
    return encoder


def test_a_table_takes_no_voice():
    with pytest.raises(ValueError, match="has a table of its training speakers"):
        SpeakerTable(["ann"], 4, None).key(np.zeros(VOICE_DIM, np.float32))


def test_training_speakers_have_the_mean_of_their_voices(encoder):
    assert encoder.key("bob") == pytest.approx(np.mean(voices(5, 2.0), axis=0), abs=1e-5)


def test_who_is_unknown_has_the_mean_of_all_voices(encoder):
    every = np.stack(voices(3, -2.0) + voices(5, 2.0))
    assert encoder.key("eve") == pytest.approx(every.mean(axis=0), abs=1e-5)
    assert encoder.key(None) == pytest.approx(every.mean(axis=0), abs=1e-5)
    encoder.unseen = "ann"
    assert np.array_equal(encoder.key("eve"), encoder.key("ann"))


def test_a_voice_is_its_own_key_and_brings_its_f0(encoder):
    voice = voices(1, 1.0)[0]
    assert encoder.key(voice) is voice
    speakers = encoder(torch.from_numpy(np.stack([voice, encoder.key("ann")])))
    assert speakers.vectors_BS.shape == (2, 4)
    assert speakers.log2_f0_B.tolist() == pytest.approx([7.1, 6.8])


def test_a_recording_far_from_all_others_is_taken_for_a_nearer_one(encoder):
    far_V = torch.from_numpy(encoder.key(None)) + FARTHEST * encoder.deviation_V
    vectors_BS = encoder(torch.stack([far_V, far_V + 5 * encoder.deviation_V])).vectors_BS
    assert torch.allclose(vectors_BS[0], vectors_BS[1], atol=1e-5)


def test_a_saved_vocoder_speaks_with_the_same_voices(tmp_path):
    settings = Vocoder(
        istft=Istft(dim=8, blocks=1),
        unit_dim=4,
        speaker_dim=4,
        speaker="encoder",
        pitch="predicted",
    )
    vocoder = UnitVocoder(settings, 5, ["ann", "bob"])
    vocoder.voices.hear([voices(2, -2.0), voices(2, 2.0)])
    vocoder.save_pretrained(tmp_path)
    loaded = UnitVocoder.from_pretrained(tmp_path)
    for speaker in ("bob", None, voices(1, 0.5)[0]):
        expected_S = vocoder.eval().resynthesize([0, 1, 2], speaker)
        assert np.array_equal(loaded.resynthesize([0, 1, 2], speaker), expected_S)
    spoken = vocoder.resynthesize_batch([[0, 1, 2]] * 2, ["ann", voices(1, 3.0)[0]])
    assert not np.allclose(*spoken)
