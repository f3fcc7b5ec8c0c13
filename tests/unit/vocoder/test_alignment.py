"""Segments, units and speech are aligned to the sample: what is learned from segments is said in place."""

import numpy as np
import pytest
import torch

from pipeline.audio.frame_grid import FrameGrid
from pipeline.config import Istft, Vocoder
from pipeline.vocoder.generator import UnitVocoder
from pipeline.vocoder.segments import Clip, SegmentBatches
from pipeline.vocoder.speakers import AVERAGE_SPEAKER

HOP, UNITS = 64, 4
GRIDS = [FrameGrid(100, HOP, 3200), FrameGrid(HOP, HOP, 3200, start=-HOP // 2)]


def recording(units_T, patterns, grid):
    """A pattern of its unit in the middle of each frame, and noise where no whole hop is."""
    samples_S = np.random.default_rng(1).standard_normal(grid.num_samples(len(units_T))) / 10
    for frame, unit in enumerate(units_T):
        first = round(grid.centre_seconds(frame) * grid.sample_rate_hz) - HOP // 2
        inside = slice(max(first, 0), first + HOP)
        samples_S[inside] = patterns[unit][inside.start - first :]
    return samples_S.astype(np.float32)


@pytest.mark.parametrize("grid", GRIDS)
def test_one_utterance_is_learned_to_the_sample(grid):
    """The generator sees one unit at a time, so that it can say a pattern in its hop and only there."""
    random = np.random.default_rng(0)
    patterns = 0.3 * random.standard_normal((UNITS, HOP))
    units_T = random.integers(UNITS, size=40)
    samples_S = recording(units_T, patterns, grid)
    settings = Vocoder(istft=Istft(dim=64, blocks=1, kernel=1, overlap=2), unit_dim=16)
    torch.manual_seed(0)
    vocoder = UnitVocoder(settings, UNITS, ["ann"], grid)
    batches = SegmentBatches(
        clips=[Clip(units_T, (np.array(0),), lambda: samples_S)],
        segment_frames=8,
        batch_size=8,
        hop=HOP,
        shift=vocoder.shift,
        seed=0,
        average_speaker=np.array(AVERAGE_SPEAKER),
    )
    optimizer = torch.optim.Adam(vocoder.parameters(), 1e-2)
    for step in range(250):
        units_BT, waveform_BS, speakers_B, _ = batches[step]
        loss = (vocoder(units_BT, speakers_B) - waveform_BS).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    said_S = vocoder.resynthesize(units_T, "ann")
    assert len(said_S) == len(samples_S)
    whole = slice(max(vocoder.shift, 0) + HOP, -2 * HOP)
    errors = [
        np.square(np.roll(said_S, lag) - samples_S)[whole].mean() for lag in (-HOP, -1, 0, 1, HOP)
    ]
    power = np.square(samples_S[whole]).mean()
    assert errors[2] < 0.1 * power
    assert min(errors[:2] + errors[3:]) > 0.5 * power
