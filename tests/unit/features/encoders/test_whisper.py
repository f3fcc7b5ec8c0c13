"""A Whisper encoder equals transformers' own; without padding it does not depend on its batch."""

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open
from support import save_tiny_whisper
from transformers import WhisperFeatureExtractor, WhisperModel

from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import pad_waveforms
from pipeline.features.windows import Windowing, hidden_states_in_windows
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.tokenizer.feature_mixer import FeatureMixer

LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_whisper(tmp_path_factory.mktemp("whisper"))


def noise(*seconds):
    generator = np.random.default_rng(0)
    return [(0.1 * generator.normal(size=round(16000 * one))).astype(np.float32) for one in seconds]


def transformers_own(folder, waveforms):
    """Each layer of each utterance, padded to the window."""
    features = WhisperFeatureExtractor.from_pretrained(folder)(
        waveforms, sampling_rate=16000, return_tensors="pt"
    )
    encoder = WhisperModel.from_pretrained(folder).eval().encoder
    with torch.no_grad():
        encoded = encoder(features.input_features, output_hidden_states=True)
    return torch.stack([*encoded.hidden_states[:2], encoded.last_hidden_state])


@torch.no_grad()
def test_layers_equal_transformers_own_and_are_cut_to_the_utterance(folder):
    waveforms = noise(0.7, 2.0, 0.011)
    hidden_LBTD, num_frames_B = load_encoder(folder)(*pad_waveforms(waveforms), LAYERS)
    assert num_frames_B.tolist() == [35, 100, 1]
    assert hidden_LBTD.shape == (3, 3, 100, 16)
    expected_LBTD = transformers_own(folder, waveforms)
    for row, length in enumerate(num_frames_B.tolist()):
        found, expected = hidden_LBTD[:, row, :length], expected_LBTD[:, row, :length]
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        assert not hidden_LBTD[:, row, length:].any()
    assert expected_LBTD[1].std() > 0.1  # the layers do something


@torch.no_grad()
def test_without_padding_the_first_layer_is_the_same_and_the_others_are_not(folder):
    batch = pad_waveforms(noise(0.7, 1.3))
    padded = load_encoder(folder)(*batch, LAYERS).hidden_LBTD
    bare = load_encoder(folder, pad="none")(*batch, LAYERS).hidden_LBTD
    assert bare.shape == padded.shape
    torch.testing.assert_close(bare[0], padded[0], atol=1e-6, rtol=0)
    assert (bare[1:] - padded[1:]).abs().amax((1, 2, 3)).min() > 1e-2


@torch.no_grad()
def test_audio_as_long_as_the_window_needs_no_padding(folder):
    # The last frames differ: behind them transformers' spectrogram is mirrored, ours is silence.
    batch = pad_waveforms(noise(2.0))
    padded = load_encoder(folder)(*batch, (0,)).hidden_LBTD
    bare = load_encoder(folder, pad="none")(*batch, (0,)).hidden_LBTD
    torch.testing.assert_close(bare[:, :, :98], padded[:, :, :98], atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("pad", ["window", "none"])
def test_an_utterance_does_not_depend_on_its_batch_or_on_garbage_behind_it(folder, pad):
    model, short = load_encoder(folder, pad=pad), noise(0.53)[0]
    alone = model(*pad_waveforms([short]), LAYERS)
    waveforms_BS, num_samples_B = pad_waveforms([noise(1.9)[0], short, noise(0.2)[0]])
    waveforms_BS[1, len(short) :] = 1e4
    waveforms_BS[2, 3200:] = torch.nan
    together = model(waveforms_BS, num_samples_B, LAYERS)
    length = int(alone.num_frames_B)
    assert together.num_frames_B.tolist() == [95, length, 10]
    torch.testing.assert_close(
        together.hidden_LBTD[:, 1, :length], alone.hidden_LBTD[:, 0], atol=1e-5, rtol=0
    )
    assert together.hidden_LBTD.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("pad", ["window", "none"])
@pytest.mark.parametrize(
    ("place", "hearers"),
    [(0, [0, 1]), (320, [0, 1, 2]), (6400, [19, 20, 21]), (6560, [19, 20, 21, 22])],
)
def test_the_frames_that_hear_a_click_lie_around_it(folder, pad, place, hearers):
    model, noisy = load_encoder(folder, pad=pad), noise(1.5)[0]
    clicking = noisy.copy()
    clicking[place] = 1.0
    hidden_BTD = model(*pad_waveforms([clicking, noisy]), (0,)).hidden_LBTD[0]
    change_T = (hidden_BTD[0] - hidden_BTD[1]).norm(dim=1)
    assert (change_T > 1e-4 * change_T.max()).nonzero()[:, 0].tolist() == hearers
    seconds = [model.grid.centre_seconds(frame) for frame in hearers]
    if place > 0:
        assert np.mean(seconds) * 16000 == pytest.approx(place)


def test_frames_are_counted_as_transformers_counts_them(folder):
    model = load_encoder(folder)
    backbone = WhisperModel.from_pretrained(folder)
    for num_samples in (160, 161, 319, 320, 479, 480, 481, 12345, 31999, 32000):
        mels = torch.tensor(num_samples // 160)
        expected = int(backbone._get_feat_extract_output_lengths(mels))
        assert model.grid.num_frames(num_samples) == expected
    assert model.grid.num_frames(159) == 0


def test_only_the_encoder_is_loaded_and_saved(folder, tmp_path):
    model = load_encoder(folder, max_layer=1, pad="none")
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert {name.split(".")[0] for name in names} == {"encoder"}
    assert not any(name.startswith("encoder.layers.1.") for name in names)
    loaded = load_encoder(tmp_path)
    assert (loaded.pad, loaded.num_layers, loaded.hidden_size) == ("none", 1, 16)
    batch = pad_waveforms(noise(0.5, 0.4))
    with torch.no_grad():
        expected = load_encoder(folder, pad="none")(*batch, LAYERS).hidden_LBTD[:2]
        torch.testing.assert_close(model(*batch, (0, 1)).hidden_LBTD, expected)
        torch.testing.assert_close(loaded(*batch, (0, 1)).hidden_LBTD, expected)
    said = json.loads((tmp_path / "config.json").read_text())
    assert said["model_type"] == "whisper"
    # The saved encoder is transformers' own too.
    assert len(WhisperModel.from_pretrained(tmp_path).encoder.layers) == 1


@pytest.mark.parametrize("pad", ["window", "none"])
@pytest.mark.parametrize("max_layer", [1, 2])
def test_gradients_reach_all_weights_but_the_positions(folder, pad, max_layer):
    model = load_encoder(folder, max_layer=max_layer, pad=pad).train()
    model(*pad_waveforms(noise(0.5, 0.3)), (max_layer,)).hidden_LBTD.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    unused = {"backbone.encoder.layer_norm.weight", "backbone.encoder.layer_norm.bias"}
    assert frozen == {"backbone.encoder.embed_positions.weight"} | (
        unused if max_layer < 2 else set()
    )
    assert model.backbone.encoder.conv1.weight.grad.any()


def test_frozen_convolutions_take_no_gradient_and_the_blocks_do(folder):
    model = load_encoder(folder).train()
    model.freeze_front_end()
    model(*pad_waveforms(noise(0.5)), (2,)).hidden_LBTD.square().sum().backward()
    assert model.backbone.encoder.conv1.weight.grad is None
    assert model.backbone.encoder.conv2.weight.grad is None
    assert all(p.grad.any() for p in model.blocks()[0].fc1.parameters())


def test_blocks_computed_again_leave_the_gradients_what_they_were(folder):
    found = []
    for checkpointed in (False, True):
        model = load_encoder(folder, pad="none").train()
        if checkpointed:
            model.checkpoint_gradients()
        runs = []
        model.blocks()[1].fc1.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        model(*pad_waveforms(noise(0.5, 0.3)), LAYERS).hidden_LBTD.square().sum().backward()
        assert len(runs) == 1 + checkpointed
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)


def test_dropout_is_on_in_training_alone(tmp_path):
    model = load_encoder(save_tiny_whisper(tmp_path, dropout=0.5))
    batch = pad_waveforms(noise(0.5))
    with torch.no_grad():
        once, twice = (model(*batch, (0, 2)).hidden_LBTD for _ in range(2))
        dropped = model.train()(*batch, (0, 2)).hidden_LBTD
    torch.testing.assert_close(once, twice)
    assert (dropped[0] != once[0]).float().mean() > 0.3


@torch.no_grad()
@pytest.mark.parametrize("pad", ["window", "none"])
def test_audio_beyond_the_window_goes_through_in_windows_of_it(folder, pad):
    model, windowing = load_encoder(folder, pad=pad), Windowing()
    batch = pad_waveforms(noise(5.0, 1.0))
    with pytest.raises(ValueError, match=r"250 frames, ssl.model takes 100 at once \(2 s\)"):
        model(*batch, LAYERS)
    hidden_LBTD, num_frames_B = hidden_states_in_windows(model, *batch, LAYERS, windowing)
    assert num_frames_B.tolist() == [250, 50]
    plan = windowing.plan(80000, model.grid)
    assert max(window.samples.stop - window.samples.start for window in plan) <= 32000
    second = plan[1]
    alone = model(*pad_waveforms([noise(5.0)[0][second.samples]]), LAYERS).hidden_LBTD[:, 0]
    start = second.samples.start // 320
    kept = slice(start + second.frames.start, start + second.frames.stop)
    torch.testing.assert_close(hidden_LBTD[:, 0, kept], alone[:, second.frames], atol=1e-5, rtol=0)


@torch.no_grad()
def test_frames_within_windows_lie_where_those_of_the_whole_do(folder, tmp_path):
    # Layer 0 without positions looks at its neighbours alone.
    windowed, whole = load_encoder(folder), load_encoder(save_tiny_whisper(tmp_path, seconds=6))
    whole.backbone.encoder.conv1.load_state_dict(windowed.backbone.encoder.conv1.state_dict())
    whole.backbone.encoder.conv2.load_state_dict(windowed.backbone.encoder.conv2.state_dict())
    for model in (windowed, whole):
        model.backbone.encoder.embed_positions.weight.zero_()
    batch = pad_waveforms(noise(5.0))
    found, _ = hidden_states_in_windows(windowed, *batch, (0,), Windowing())
    expected, _ = whole(*batch, (0,))
    # The last window ends with the audio, where transformers' spectrogram is mirrored.
    torch.testing.assert_close(found[:, :, :-2], expected[:, :, :-2], atol=1e-5, rtol=0)
    assert expected.std() > 0.1


@torch.no_grad()
def test_a_spectrogram_is_computed_in_full_precision_under_autocast(folder):
    model, batch = load_encoder(folder), pad_waveforms(noise(0.5))
    with torch.autocast("cpu", torch.bfloat16):
        mels = model.log_mel(*batch, 32000)
    assert mels.dtype == torch.float32
    torch.testing.assert_close(mels, model.log_mel(*batch, 32000), atol=0, rtol=0)


def test_batches_count_what_an_utterance_is_filled_up_to(folder):
    sizes = []
    for pad in ("window", "none"):
        ssl = load_encoder(folder, pad=pad)
        mixer = FeatureMixer(ssl, (2,), LayerMix(1, 0, 0.5, learned=False)).eval()
        ssl.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
        assert [len(rows) for rows in mixer.encode(noise(0.4, 0.5, 0.6, 2.0), 4.0)] == [
            20,
            25,
            30,
            100,
        ]
    assert sizes == [2, 2, 3, 1]
