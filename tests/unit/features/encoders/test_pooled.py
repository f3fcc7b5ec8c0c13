"""Pooled hidden states against the mean of each group, frame by frame, of every utterance alone."""

import numpy as np
import pytest
import torch
from support import encode_at_once, save_tiny_ssl, save_tiny_whisper

from pipeline.audio.frame_grid import SSL_GRID
from pipeline.features.encoders.load import load_encoder
from pipeline.features.encoders.pooled import PooledEncoder
from pipeline.features.ssl import pad_waveforms
from pipeline.features.windows import Windowing, hidden_states_in_windows
from pipeline.quantizer.layer_mix import LayerMix

LAYERS = (0, 1, 2)
# Frames of 20 ms: what is left over of groups of four is 0 to 3 frames.
SECONDS = (0.30, 0.62, 0.44, 1.10, 0.085)


@pytest.fixture(scope="module", params=["wavlm", "whisper"])
def folder(request, tmp_path_factory):
    save = save_tiny_ssl if request.param == "wavlm" else save_tiny_whisper
    folder = tmp_path_factory.mktemp(request.param)
    save(folder)
    return folder


def noise(*seconds):
    generator = np.random.default_rng(0)
    return [(0.1 * generator.normal(size=round(16000 * one))).astype(np.float32) for one in seconds]


@torch.no_grad()
def groups_of(model, waveform, pool):
    """The mean of each complete group of an utterance's frames (L x T x D), one after another."""
    whole_LTD = model(*pad_waveforms([waveform]), LAYERS).hidden_LBTD[:, 0].double()
    means = []
    for first in range(0, whole_LTD.shape[1], pool):
        if first + pool <= whole_LTD.shape[1]:
            frames = [whole_LTD[:, first + offset] for offset in range(pool)]
            means.append(sum(frames) / pool)
    return torch.stack(means, 1)


@pytest.mark.parametrize("pool", [2, 4])
@torch.no_grad()
def test_each_frame_is_the_mean_of_its_group_whatever_the_batch(folder, pool):
    model, pooled = load_encoder(folder, pad="none"), load_encoder(folder, pad="none", pool=pool)
    assert isinstance(pooled, PooledEncoder)
    waveforms = noise(*SECONDS)
    hidden_LBTD, num_frames_B = pooled(*pad_waveforms(waveforms), LAYERS)
    assert hidden_LBTD.shape[2] == int(num_frames_B.max())
    for row, (waveform, num_frames) in enumerate(
        zip(waveforms, num_frames_B.tolist(), strict=True)
    ):
        expected_LTD = groups_of(model, waveform, pool)
        assert num_frames == expected_LTD.shape[1] == pooled.grid.num_frames(len(waveform))
        found_LTD = hidden_LBTD[:, row, :num_frames].double()
        torch.testing.assert_close(found_LTD, expected_LTD, atol=1e-4, rtol=0)
        assert not hidden_LBTD[:, row, num_frames:].any()


@torch.no_grad()
def test_mixed_layers_may_be_pooled_before_or_behind_the_mix(folder):
    mix = LayerMix(3, 1, 0.6, learned=True)
    batch = pad_waveforms(noise(0.62))
    before = mix(load_encoder(folder, pool=2)(*batch, LAYERS).hidden_LBTD)
    mixed_BTD = mix(load_encoder(folder)(*batch, LAYERS).hidden_LBTD)
    for frame in range(before.shape[1]):
        expected = (mixed_BTD[:, 2 * frame] + mixed_BTD[:, 2 * frame + 1]) / 2
        torch.testing.assert_close(before[:, frame], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pool", [2, 4])
@torch.no_grad()
def test_windows_join_at_whole_groups(folder, pool):
    model, windowing = load_encoder(folder, pool=pool), Windowing(1.0, 0.3)
    waveforms = noise(3.7, 0.4)

    def encode(batch):
        hidden = model(*pad_waveforms(batch), LAYERS)
        rows = zip(hidden.hidden_LBTD.unbind(1), hidden.num_frames_B.tolist(), strict=True)
        return [row_LTD[:, :length].numpy() for row_LTD, length in rows]

    batch = pad_waveforms(waveforms)
    hidden_LBTD, num_frames_B = hidden_states_in_windows(model, *batch, LAYERS, windowing)
    joined = encode_at_once(encode, waveforms, model.grid, windowing, batch_seconds=20.0)
    plan = windowing.plan(len(waveforms[0]), model.grid)
    assert len(plan) > 3
    assert all(window.samples.start % (320 * pool) == 0 for window in plan)
    for row, (waveform, found_LTD) in enumerate(zip(waveforms, joined, strict=True)):
        num_frames = model.grid.num_frames(len(waveform))
        assert found_LTD.shape[1] == num_frames == int(num_frames_B[row])
        in_training = hidden_LBTD[:, row, :num_frames].numpy()
        np.testing.assert_allclose(found_LTD, in_training, atol=1e-4)


@pytest.mark.parametrize("pad", ["window", "none"])
@pytest.mark.parametrize("pool", [2, 4])
@torch.no_grad()
def test_a_group_that_a_whisper_window_cuts_off_is_dropped(tmp_path, pool, pad):
    folder = save_tiny_whisper(tmp_path)  # its window is 2 s, 100 frames
    model, pooled = (load_encoder(folder, pad=pad, pool=each) for each in (1, pool))
    longest = pooled.grid.num_samples(100 // pool + 1) - 1  # one sample more is one group more
    waveforms = noise(longest / 16000, 0.9)
    hidden_LBTD, num_frames_B = hidden_states_in_windows(
        pooled, *pad_waveforms(waveforms), LAYERS, Windowing()
    )
    assert num_frames_B.tolist() == [100 // pool, 45 // pool]
    expected_LTD = groups_of(model, waveforms[0][: model.grid.num_samples(101) - 1], pool)
    found_LTD = hidden_LBTD[:, 0].double()
    torch.testing.assert_close(found_LTD, expected_LTD, atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="pass it in windows"):
        pooled(*pad_waveforms(noise((longest + 1) / 16000)), LAYERS)


@torch.no_grad()
def test_a_saved_model_remembers_its_pool_unless_told_another(folder, tmp_path):
    pooled = load_encoder(folder, max_layer=1, pool=4)
    pooled.save_pretrained(tmp_path)
    batch = pad_waveforms(noise(0.5, 0.9))
    loaded = load_encoder(tmp_path)
    assert loaded.grid == pooled.grid
    assert loaded.num_layers == len(loaded.blocks()) == 1
    expected, found = pooled(*batch, (0, 1)), loaded(*batch, (0, 1))
    assert torch.equal(expected.hidden_LBTD, found.hidden_LBTD)
    assert load_encoder(tmp_path, pool=2).grid.frames_per_second == 25.0
    alone = load_encoder(tmp_path, pool=1)
    assert alone.grid == load_encoder(folder).grid
    alone.save_pretrained(tmp_path / "alone")
    assert load_encoder(tmp_path / "alone").grid == alone.grid


def test_gradients_pass_and_stop_at_a_frozen_front_end(folder):
    model = load_encoder(folder, pool=2, max_layer=1).train()
    model.checkpoint_gradients()
    model.freeze_front_end()
    model(*pad_waveforms(noise(0.5, 0.9)), (0, 1)).hidden_LBTD.square().sum().backward()
    assert all(p.grad is not None for p in model.blocks()[0].parameters() if p.requires_grad)
    assert any(not p.requires_grad for p in model.parameters())


def test_an_utterance_shorter_than_a_group_is_named(tmp_path):
    model = load_encoder(save_tiny_ssl(tmp_path), pool=4)
    assert model.grid == SSL_GRID.pooled(4)
    with pytest.raises(
        ValueError, match=r"1359 samples is shorter than one frame \(1360 samples\)"
    ):
        model(*pad_waveforms(noise(1359 / 16000)), (0,))
