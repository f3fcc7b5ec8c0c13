import json

import numpy as np
import pytest
import torch

from pipeline.audio.frame_grid import FrameGrid
from pipeline.config import Hifigan, Vocoder
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.material import require_hop
from pipeline.vocoder.speakers import AVERAGE_SPEAKER

UNITS = np.array([0, 0, 3, 3, 3, 1, 4, 4], dtype=np.uint16)


@pytest.mark.parametrize("num_frames", [1, 7, 32])
def test_a_frame_is_exactly_a_hop(vocoder, num_frames):
    waveform_BS = vocoder(torch.zeros(2, num_frames, dtype=torch.long), torch.tensor([0, 2]))
    assert waveform_BS.shape == (2, 320 * num_frames)


def test_rates_of_another_product_are_rejected():
    rates = Hifigan(upsample_rates=(8, 8, 4), upsample_kernels=(16, 16, 8))
    with pytest.raises(ValueError, match="multiply to 256, but a unit stands for 320 samples"):
        require_hop(Vocoder(generator="hifigan", hifigan=rates), 320)
    require_hop(Vocoder(generator="istft", hifigan=rates), 320)


def test_unknown_speakers_get_the_average_embedding(vocoder):
    assert vocoder.voices.key("dee") == AVERAGE_SPEAKER
    assert vocoder.voices.key(None) == AVERAGE_SPEAKER
    units_BT = torch.from_numpy(UNITS.astype(np.int64))[None]
    averaged = vocoder(units_BT, torch.tensor([AVERAGE_SPEAKER]))
    with torch.no_grad():
        vocoder.voices.embedding.weight[1] = vocoder.voices.embedding.weight.mean(dim=0)
    assert torch.equal(averaged, vocoder(units_BT, torch.tensor([1])))


def test_unknown_speakers_can_be_spoken_by_a_named_one(vocoder_settings):
    vocoder_settings = vocoder_settings.model_copy(update={"unseen_speaker": "bob"})
    vocoder = UnitVocoder(vocoder_settings, 5, ["ann", "bob"])
    assert [vocoder.voices.key(name) for name in ("ann", "bob", "dee")] == [0, 1, 1]


def test_a_stand_in_that_is_no_speaker_is_rejected(vocoder_settings):
    vocoder_settings = vocoder_settings.model_copy(update={"unseen_speaker": "eve"})
    with pytest.raises(ValueError, match="'eve' is not among the training speakers ann, bob"):
        UnitVocoder(vocoder_settings, 5, ["ann", "bob"])


def test_resynthesis_keeps_the_frames_of_the_tokenizer(vocoder):
    waveform_S = vocoder.resynthesize(UNITS, "ann")
    assert waveform_S.dtype == np.float32
    assert FrameGrid(400, 320, 16000).num_frames(len(waveform_S)) == len(UNITS)
    assert not waveform_S[:40].any()
    assert not waveform_S[-40:].any()
    assert np.mean(waveform_S[40:-40] != 0) > 0.99


def test_resynthesis_for_frames_that_start_before_the_recording(vocoder_settings, tmp_path):
    grid = FrameGrid(320, 320, 16000, start=-160, max_frames=1500)
    vocoder = UnitVocoder(vocoder_settings, 5, ["ann"], grid).eval()
    waveform_S = vocoder.resynthesize(UNITS, "ann")
    assert vocoder.shift == -160
    assert grid.num_frames(len(waveform_S)) == len(UNITS)
    units_BT = torch.from_numpy(UNITS.astype(np.int64))[None]
    spoken_S = vocoder(units_BT, torch.tensor([0]))[0].detach().numpy()
    assert np.array_equal(waveform_S, spoken_S[160:])  # the recording's first sample is its 161st
    vocoder.save_pretrained(tmp_path)
    assert UnitVocoder.from_pretrained(tmp_path).grid == grid


def test_resynthesis_of_a_batch_of_one_equals_forward(vocoder):
    units_BT = torch.from_numpy(UNITS.astype(np.int64))[None]
    expected = vocoder(units_BT, torch.tensor([1]))[0].detach().numpy()
    assert np.array_equal(vocoder.resynthesize(UNITS, "bob")[40:-40], expected)


def test_a_batch_of_different_lengths_sounds_as_its_rows_alone(vocoder):
    random = np.random.default_rng(0)
    rows = [random.integers(5, size=length) for length in (9, 1, 32, 2)]
    speakers = ["ann", None, "cem", "bob"]
    made = vocoder.resynthesize_batch(rows, speakers)
    for waveform_S, row, speaker in zip(made, rows, speakers, strict=True):
        alone_S = vocoder.resynthesize(row, speaker)
        assert len(waveform_S) == len(alone_S)
        assert np.abs(waveform_S - alone_S).max() < 1e-5
        assert np.abs(alone_S).max() > 1e-3


def test_what_follows_a_row_does_not_reach_it(vocoder):
    units_BT = torch.tensor([[1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 3, 2]])
    speakers_B = torch.tensor([1, 1])
    masked_BS = vocoder(units_BT, speakers_B, torch.tensor([4, 4]))[:, : 4 * 320]
    assert torch.allclose(masked_BS[0], masked_BS[1], atol=1e-6)
    heard_BS = vocoder(units_BT, speakers_B)[:, : 4 * 320]
    assert not torch.allclose(heard_BS[0], heard_BS[1], atol=1e-6)


@pytest.mark.parametrize("hop", [441, 640])
def test_a_generator_with_an_inverse_stft_has_any_hop(vocoder_settings, hop):
    grid = FrameGrid(hop, hop, 50 * hop)
    vocoder = UnitVocoder(
        vocoder_settings.model_copy(update={"generator": "istft"}), 5, ["ann"], grid
    )
    assert len(vocoder.resynthesize(UNITS, "ann")) == hop * len(UNITS)
    assert vocoder.sample_rate_hz == 50 * hop


def test_filters_begin_at_the_level_of_speech(vocoder_settings):
    """A gain of 1 would be that of the excitation, a hundred times too loud to learn from."""
    torch.manual_seed(0)
    excited = vocoder_settings.model_copy(update={"generator": "istft", "pitch": "predicted"})
    waveform_S = UnitVocoder(excited, 5, ["ann"]).resynthesize(np.tile(UNITS, 8), "ann")
    assert 0.005 < np.sqrt(np.mean(waveform_S**2)) < 0.05


def test_nothing_sounds_above_the_band(vocoder_settings, tmp_path):
    vocoder_settings = vocoder_settings.model_copy(update={"generator": "istft"})
    UnitVocoder(vocoder_settings, 5, ["ann"], band_hz=4000).save_pretrained(tmp_path)
    vocoder = UnitVocoder.from_pretrained(tmp_path)
    assert vocoder.band_hz == 4000
    samples_S = vocoder.resynthesize(np.tile(UNITS, 8), "ann")
    spectrum_F = np.abs(np.fft.rfft(samples_S * np.hanning(len(samples_S))))
    above = round(len(spectrum_F) * 4100 / 8000)
    assert spectrum_F[above:].max() < 1e-3 * spectrum_F.max()


UNUSABLE = [
    ([], "non-empty"),
    (np.zeros((2, 3), np.uint16), "one utterance at a time"),
    ([[0, 1], [2]], "one utterance at a time"),
    (3, "one utterance at a time"),
    ([0, 5], "codebook of 5"),
    ([0, -1], "from -1 to 0"),
    (np.array([0, 2**63], np.uint64), "from 0 to 9223372036854775808"),
    ([0.0, 1.5], "type float64: give integers"),
    (torch.tensor([0.0, 1.0], requires_grad=True), "type float32: give integers"),
    ([np.nan], "type float64"),
    ([True, False], "type bool"),
    (["0", "1"], "type <U1"),
    ([None], "type object"),
]


def test_units_may_come_as_a_tensor(vocoder):
    expected = vocoder.resynthesize(UNITS, "ann")
    for units in (UNITS.tolist(), UNITS.astype(np.int8), torch.from_numpy(UNITS.astype(np.int32))):
        assert np.array_equal(vocoder.resynthesize(units, "ann"), expected)


@pytest.mark.parametrize(("units", "message"), UNUSABLE)
def test_unusable_units_are_rejected(vocoder, units, message):
    with pytest.raises(ValueError, match=message):
        vocoder.resynthesize(units, None)


def test_deduplicated_units_are_given_durations(vocoder):
    with torch.no_grad():
        vocoder.durations.head.weight.zero_()
        vocoder.durations.head.bias.fill_(np.log(3 + 1))
    waveform_S = vocoder.resynthesize([0, 3, 1], "ann", deduplicated=True)
    assert np.array_equal(waveform_S, vocoder.resynthesize([0, 0, 0, 3, 3, 3, 1, 1, 1], "ann"))


def test_a_saved_vocoder_speaks_alike(vocoder, tmp_path):
    vocoder.save_pretrained(tmp_path)
    loaded = UnitVocoder.from_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    assert loaded.speakers == ("ann", "bob", "cem")
    assert not loaded.training
    for speaker in ("cem", "dee"):
        expected = vocoder.resynthesize(UNITS, speaker)
        assert np.array_equal(loaded.resynthesize(UNITS, speaker), expected)


def test_the_saved_config_names_the_speakers_and_the_architecture(vocoder, tmp_path):
    vocoder.save_pretrained(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    assert description["speakers"] == ["ann", "bob", "cem"]
    architecture = description["architecture"]
    kind = architecture["generator"]
    sizes = architecture["unit_dim"], architecture[kind]
    assert sizes == (8, vocoder.settings.model_dump(mode="json")[kind])
    assert len(architecture) == 7  # nothing of the other generator, nor of training


def test_the_saved_config_names_the_tokenizer_where_it_is_known(vocoder_settings, tmp_path):
    UnitVocoder(vocoder_settings, 5, ["ann"], tokenizer="feed").save_pretrained(tmp_path)
    assert UnitVocoder.from_pretrained(tmp_path).tokenizer == "feed"
    config = tmp_path / "config.json"
    description = json.loads(config.read_text())
    del description["tokenizer"]  # as earlier versions wrote it
    config.write_text(json.dumps(description))
    assert UnitVocoder.from_pretrained(tmp_path).tokenizer is None


def test_another_folder_is_rejected(tmp_path):
    with pytest.raises(ValueError, match="is not a unit vocoder"):
        UnitVocoder.from_pretrained(tmp_path)
