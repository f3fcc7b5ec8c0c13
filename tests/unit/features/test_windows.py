"""Windows lose no frame and take none twice; joined frames are those of one pass, or close to it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import encode_at_once, save_tiny_ssl
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from pipeline.audio.frame_grid import FrameGrid
from pipeline.config import Features
from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import pad_waveforms
from pipeline.features.windows import (
    Windowing,
    hidden_states_in_windows,
    join,
)

GRID = FrameGrid(400, 320, 16000)
OTHER_GRID = FrameGrid(37, 10, 1000)
CENTRED_GRID = FrameGrid(10, 10, 1000, start=-5, max_frames=150)


@st.composite
def utterances(draw):
    own = draw(st.sampled_from([GRID, OTHER_GRID, CENTRED_GRID]))
    grid = own.pooled(draw(st.sampled_from([1, 2, 4])))
    longest = draw(st.floats(1.0, 5.0))
    overlap = longest * draw(st.floats(0.0, 0.5))
    num_frames = draw(st.integers(1, 2000))
    spare = draw(st.integers(0, grid.hop - 1))
    num_samples = grid.num_samples(num_frames) + spare
    return grid, Windowing(longest, overlap), num_samples


def places(window, grid):
    """The utterance's frames that a window sees."""
    first, rest = divmod(window.samples.start, grid.hop)
    assert rest == 0
    return range(first, first + grid.num_frames(window.samples.stop - window.samples.start))


@given(utterances())
def test_every_frame_is_taken_once_and_in_order(case):
    grid, windowing, num_samples = case
    taken = [
        frame
        for window in windowing.plan(num_samples, grid)
        for frame in places(window, grid)[window.frames]
    ]
    assert taken == list(range(grid.num_frames(num_samples)))


@given(utterances())
def test_windows_are_as_long_and_share_as_much_as_was_asked_for(case):
    grid, windowing, num_samples = case
    plan = windowing.plan(num_samples, grid)
    limit = windowing.max_seconds * grid.sample_rate_hz
    longest = min(grid.num_frames(round(limit)), grid.max_frames or num_samples)
    if grid.num_frames(num_samples) <= longest:
        assert [window.samples for window in plan] == [slice(0, num_samples)]
        return
    seen = [places(window, grid) for window in plan]
    assert len({len(frames) for frames in seen}) == 1
    assert all(0 <= w.samples.start < w.samples.stop <= num_samples for w in plan)
    assert all(w.samples.stop - w.samples.start <= limit + 0.5 for w in plan)
    assert max(map(len, seen)) <= longest
    shared = [before.stop - after.start for before, after in pairwise(seen)]
    wanted = round(windowing.overlap_seconds * grid.frames_per_second)
    assert min(shared) >= min(wanted, longest // 2)


@given(utterances())
def test_a_frame_is_taken_from_the_window_whose_middle_is_nearest(case):
    grid, windowing, num_samples = case
    plan = windowing.plan(num_samples, grid)
    seen = [places(window, grid) for window in plan]
    middles = np.array([(frames.start + frames.stop - 1) / 2 for frames in seen])
    for window, frames, middle in zip(plan, seen, middles, strict=True):
        for frame in frames[window.frames]:
            # A cut between two frames may fall to either side.
            assert abs(frame - middle) <= np.abs(frame - middles).min() + 1


def _samples_of(waveform, frame, grid):
    """The frame's samples that no window cuts off."""
    first = grid.hop * frame
    return waveform[first:][: grid.start + grid.receptive_field]


@given(utterances())
def test_joined_frames_are_those_of_the_whole(case):
    grid, windowing, num_samples = case
    waveforms = [
        np.random.default_rng(seed).normal(size=length).astype(np.float32)
        for seed, length in enumerate(
            [num_samples, grid.receptive_field, num_samples // 2 + grid.receptive_field]
        )
    ]

    def sums(batch):
        return [
            np.stack([_samples_of(w, i, grid) for i in range(n)]).sum(1)[:, None]
            for w in batch
            if (n := grid.num_frames(len(w)))
        ]

    joined = encode_at_once(sums, waveforms, grid, windowing, batch_seconds=2.0)
    for found, expected in zip(joined, sums(waveforms), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_few_windows_of_an_hour_cost_little_more_than_the_hour():
    plan = Windowing(30.0, 2.0).plan(3600 * 16000, GRID)
    assert len(plan) == 129
    assert sum(len(places(window, GRID)) for window in plan) < 1.08 * GRID.num_frames(3600 * 16000)


def test_a_model_of_another_grid_is_noticed():
    plan = Windowing(1.0, 0.2).plan(48000, GRID)
    parts = [np.zeros((49, 3)) for _ in plan]
    with pytest.raises(AssertionError, match="49 frames of a window, the grid says"):
        join(plan, parts, GRID, np.concatenate)


def test_settings_come_from_the_config():
    assert Windowing.of(Features(max_seconds=12, overlap_seconds=3)) == Windowing(12, 3)
    assert Windowing() == Windowing.of(Features())
    with pytest.raises(ValueError, match="must not exceed half of max_seconds"):
        Features(max_seconds=4, overlap_seconds=2.5)


@pytest.fixture(scope="module")
def ssl(tmp_path_factory):
    return load_encoder(save_tiny_ssl(tmp_path_factory.mktemp("ssl")))


def noise(*seconds):
    generator = np.random.default_rng(0)
    return [(0.3 * generator.normal(size=round(16000 * one))).astype(np.float32) for one in seconds]


def one_pass(ssl, waveforms):
    hidden_LBTD, num_frames_B = ssl(*pad_waveforms(waveforms), (0, 2))
    return [hidden_LBTD[:, row, :n].numpy() for row, n in enumerate(num_frames_B.tolist())]


@torch.no_grad()
def test_a_padded_batch_gives_what_waveforms_one_by_one_give(ssl):
    waveforms, windowing = noise(0.4, 2.9, 1.0, 1.7), Windowing(1.0, 0.3)
    hidden_LBTD, num_frames_B = hidden_states_in_windows(
        ssl, *pad_waveforms(waveforms), (0, 2), windowing
    )
    expected = encode_at_once(
        lambda batch: one_pass(ssl, batch), waveforms, ssl.grid, windowing, batch_seconds=0.1
    )
    assert num_frames_B.tolist() == [ssl.grid.num_frames(len(one)) for one in waveforms]
    assert hidden_LBTD.shape[2] == max(num_frames_B)
    for row, (expected_LTD, length) in enumerate(zip(expected, num_frames_B, strict=True)):
        assert expected_LTD.shape[1] == length
        np.testing.assert_allclose(hidden_LBTD[:, row, :length], expected_LTD, atol=1e-4)
        assert not hidden_LBTD[:, row, length:].any()


@torch.no_grad()
def test_what_fits_one_window_is_untouched_bit_for_bit(ssl):
    batch = pad_waveforms(noise(0.4, 1.0, 0.7))
    found = hidden_states_in_windows(ssl, *batch, (0, 2), Windowing(1.0, 0.3))
    assert torch.equal(found.hidden_LBTD, ssl(*batch, (0, 2)).hidden_LBTD)
    whole = encode_at_once(
        lambda batch: one_pass(ssl, batch), noise(1.0), ssl.grid, Windowing(1.0, 0.3), 80.0
    )
    np.testing.assert_array_equal(whole[0], one_pass(ssl, noise(1.0))[0])


def test_gradients_pass_through_the_windows(ssl):
    waveforms_BS, num_samples_B = pad_waveforms(noise(2.5))
    waveforms_BS.requires_grad_(True)  # noqa: FBT003 - torch's own argument
    hidden = hidden_states_in_windows(ssl, waveforms_BS, num_samples_B, (2,), Windowing(1.0, 0.2))
    hidden.hidden_LBTD.square().sum().backward()
    gradient_S = waveforms_BS.grad[0, : (int(hidden.num_frames_B) - 1) * 320 + 400]
    assert (gradient_S != 0).float().mean() > 0.99


@pytest.fixture(scope="module")
def layer_norm_ssl():
    """Without group norm nothing but attention looks beyond a frame's neighbours."""
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    return ConvolutionalEncoder(
        WavLMModel(config), Wav2Vec2FeatureExtractor(do_normalize=False)
    ).eval()


@torch.no_grad()
def test_windowed_frames_are_close_to_those_of_one_pass(layer_norm_ssl):
    batch, windowing = pad_waveforms(noise(20.0)), Windowing(8.0, 1.0)
    whole = layer_norm_ssl(*batch, (0, 2)).hidden_LBTD[:, 0]
    found = hidden_states_in_windows(layer_norm_ssl, *batch, (0, 2), windowing).hidden_LBTD[:, 0]
    # The positional convolution reaches 8 frames to each side, half an overlap is 25.
    torch.testing.assert_close(found[0], whole[0], atol=1e-4, rtol=0)
    error = (found[1] - whole[1]).norm(dim=1) / (whole[1] - whole[1].mean(dim=0)).norm(dim=1)
    assert 1e-4 < error.max() < 0.01


@torch.no_grad()
def test_silence_stays_finite(ssl):
    silence = pad_waveforms([np.zeros(40_000, np.float32)])
    hidden = hidden_states_in_windows(ssl, *silence, (0, 2), Windowing(1.0, 0.2))
    assert hidden.hidden_LBTD.isfinite().all()
