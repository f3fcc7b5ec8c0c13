import numpy as np
import pytest
import torch

from pipeline.config import Pretraining
from pipeline.features.encoders.load import load_encoder
from pipeline.features.masked_prediction import (
    Labelled,
    degrade,
    draw_mask,
    pretrain,
    small_wavlm,
)
from pipeline.features.ssl import pad_waveforms
from pipeline.progress import Progress

TINY = Pretraining(
    num_labels=2,
    dim=16,
    heads=2,
    feedforward_dim=32,
    conv_channels=16,
    dropout=0.0,
    epochs=10,
    batch_seconds=3.0,
    band_limited_share=0.0,
    bfloat16=False,
    learning_rate=1e-2,
)


def tones(number, seed):
    """Low or high tones that change at random times, and a label for each frame."""
    generator = np.random.default_rng(seed)
    waveforms, labels = [], []
    for _ in range(number):
        # A label holds for 16 frames, so that a masked span can be told from its surroundings.
        kinds = np.repeat(generator.integers(2, size=3), 16 * 320)
        phase = np.cumsum(np.where(kinds, 2500, 400)) / 16000 * 2 * np.pi
        waveform = (0.3 * np.sin(phase)).astype(np.float32)
        num_frames = (len(waveform) - 400) // 320 + 1
        waveforms.append(waveform)
        labels.append(kinds[200 : 200 + 320 * num_frames : 320].astype(np.int64))
    return Labelled(waveforms, labels)


def test_masked_frames_are_learned_and_the_folder_loads_again(tmp_path):
    sent = []
    encoder, scores = pretrain(tones(24, 0), tones(10, 1), TINY, Progress(sent.append))
    assert scores.masked_accuracy > 0.75
    assert (sent[-1].done, sent[-1].total, sent[-1].unit) == (TINY.epochs, TINY.epochs, "epochs")
    assert sent[-1].note.startswith("loss ")
    encoder.save_pretrained(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "model.safetensors", "preprocessor_config.json"}
    loaded = load_encoder(tmp_path)
    batch = pad_waveforms(tones(2, 2).waveforms)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(*batch, (0, 2)).hidden_LBTD, encoder.eval()(*batch, (0, 2)).hidden_LBTD
        )


def test_same_seed_same_weights():
    settings = TINY.model_copy(update={"epochs": 1})
    encoders = [pretrain(tones(6, 0), tones(2, 1), settings)[0] for _ in "ab"]
    first, second = (encoder.state_dict() for encoder in encoders)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_default_encoder_has_the_size_it_should():
    encoder = small_wavlm(Pretraining())
    assert sum(weight.numel() for weight in encoder.parameters()) < 600_000
    assert (encoder.num_layers, encoder.hidden_size) == (2, 128)
    assert (encoder.grid.receptive_field, encoder.grid.hop) == (400, 320)


def test_masks_are_spans_inside_the_utterance_one_at_least():
    settings = Pretraining(mask_start_share=0.08, mask_frames=10)
    valid_BT = torch.arange(400) < torch.tensor([[400], [50], [3]])
    masked_BT = draw_mask(valid_BT, np.random.default_rng(0), settings)
    assert not (masked_BT & ~valid_BT).any()
    assert masked_BT.any(1).all()
    # 1 - (1 - 0.08)^10 = 0.57 of the frames on average.
    assert 0.4 < masked_BT[0].float().mean() < 0.7
    none = settings.model_copy(update={"mask_start_share": 0.0})
    masked_BT = draw_mask(valid_BT, np.random.default_rng(0), none)
    runs = [int(row.sum()) for row in masked_BT]
    assert all(1 <= run <= 10 for run in runs)
    for row, run in zip(masked_BT, runs, strict=True):
        places = row.nonzero().flatten()
        assert int(places[-1] - places[0]) == run - 1


@pytest.mark.parametrize(("share", "expected"), [(0.0, True), (1.0, False)])
def test_telephone_band_is_cut_for_the_asked_share(share, expected):
    settings = Pretraining(band_limited_share=share)
    generator = np.random.default_rng(0)
    noise_BS = torch.from_numpy(generator.standard_normal((3, 16384), np.float32))
    degraded_BS = degrade(noise_BS, torch.full((3,), 16384), generator, settings)
    power_BF = torch.fft.rfft(degraded_BS).abs().square()
    high_share_B = power_BF[:, 4100:].sum(1) / power_BF.sum(1)
    assert ((high_share_B > 0.05) == expected).all()


def test_degrading_keeps_speech_and_adds_noise_by_the_level_of_each_row():
    settings = Pretraining(band_limited_share=0.0)
    times = torch.arange(16000) / 16000
    waveforms_BS = torch.stack([torch.sin(2 * np.pi * 440 * times), torch.zeros(16000)])
    degraded_BS = degrade(waveforms_BS, torch.full((2,), 16000), np.random.default_rng(0), settings)
    similarity = torch.corrcoef(torch.stack([waveforms_BS[0], degraded_BS[0]]))[0, 1].abs()
    assert 0.5 < similarity < 0.9999
    assert degraded_BS[1].abs().max() == 0
