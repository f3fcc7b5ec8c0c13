"""Utterances too long for one pass of an SSL model: windows with overlap, their frames joined.

A model's memory and time grow with the square of the length, and it never heard such lengths in
training. Windows lie on the model's own grid of frames, so that a joined utterance has exactly the
frames of the whole one. Each frame is taken from the window whose middle it is nearest to.

Attention within a window is global, so frames of a long utterance are close to those of one pass,
not equal. An utterance that fits into one window goes through untouched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from pipeline.audio.frame_grid import FrameGrid
from pipeline.config import Features
from pipeline.features.batching import map_in_batches
from pipeline.features.inference import Awaited
from pipeline.features.ssl import HiddenStates, SslModel, pad_waveforms

Frames = TypeVar("Frames", np.ndarray, Tensor)


@dataclass(frozen=True)
class Window:
    """`samples` of an utterance, and which of the frames that they give the utterance keeps."""

    samples: slice
    frames: slice


@dataclass(frozen=True)
class Windowing:
    """Utterances above `max_seconds` are cut into windows that overlap by `overlap_seconds` or more.

    Those that have more frames than the model gives in one pass are cut too.
    """

    max_seconds: float = Features.model_fields["max_seconds"].default
    overlap_seconds: float = Features.model_fields["overlap_seconds"].default

    @classmethod
    def of(cls, features: Features) -> Self:
        return cls(features.max_seconds, features.overlap_seconds)

    def plan(self, num_samples: int, grid: FrameGrid) -> list[Window]:
        """Windows of equal length: as few as possible, and then as short as possible.

        The frames that they keep are contiguous: `grid.num_frames(num_samples)` in total.
        """
        num_frames = grid.num_frames(num_samples)
        longest = max(1, grid.num_frames(round(self.max_seconds * grid.sample_rate_hz)))
        if grid.max_frames is not None:
            longest = min(longest, grid.max_frames)
        if num_frames <= longest:
            return [Window(slice(0, num_samples), slice(0, num_frames))]
        # Of a limit that is the model's, the overlap must not take more than half either.
        overlap = min(round(self.overlap_seconds * grid.frames_per_second), longest // 2)
        count = -(-(num_frames - overlap) // (longest - overlap))
        length = -(-(num_frames + (count - 1) * overlap) // count)
        starts = [index * (num_frames - length) // (count - 1) for index in range(count)]
        # Each of two windows keeps half of the frames that they share.
        cuts = [(before + length + start) // 2 for before, start in pairwise(starts)]
        bounds = zip([0, *cuts], [*cuts, num_frames], strict=True)
        reach = grid.num_samples(length)
        return [
            Window(
                slice(start * grid.hop, start * grid.hop + reach), slice(low - start, high - start)
            )
            for start, (low, high) in zip(starts, bounds, strict=True)
        ]


def join(
    plan: Sequence[Window],
    parts: Sequence[Frames],
    grid: FrameGrid,
    concatenate: Callable[[list[Frames], int], Frames],
) -> Frames:
    """The utterance's frames (… x T x D) from those of its windows, in the plan's order.

    Raises:
        AssertionError: a window has another number of frames than the grid says.
    """
    for window, part in zip(plan, parts, strict=True):
        expected = grid.num_frames(window.samples.stop - window.samples.start)
        if part.shape[-2] != expected:
            raise AssertionError(f"{part.shape[-2]} frames of a window, the grid says {expected}")
    if len(plan) == 1:
        return parts[0]
    kept = [part[..., window.frames, :] for window, part in zip(plan, parts, strict=True)]
    return concatenate(kept, -2)


def encode_in_windows(
    start: Callable[[list[np.ndarray]], Sequence[Awaited]],
    waveforms: Sequence[np.ndarray],
    grid: FrameGrid,
    windowing: Windowing,
    batch_seconds: float,
    *,
    padded_samples: Callable[[int], int] = int,
) -> list[Awaited]:
    """What waits for the frames (… x T x D) of each waveform (num_samples,), in the order given.

    All batches are begun first: a GPU works while its host reads what others gave.

    Args:
        start: begins with waveforms of similar length, none above the limit, and returns for each
            what waits for its frames.
        waveforms: at `grid.sample_rate_hz`, of any length.
        grid: the frames that `start` makes.
        windowing: the limit.
        batch_seconds: seconds of audio, padding included, that go through the model at once.
        padded_samples: how many samples the model goes through for a waveform of so many.
    """
    plans = [windowing.plan(len(waveform), grid) for waveform in waveforms]
    cuts = [
        waveform[window.samples]
        for waveform, plan in zip(waveforms, plans, strict=True)
        for window in plan
    ]
    limit = int(batch_seconds * grid.sample_rate_hz)
    parts = iter(map_in_batches(start, cuts, [padded_samples(len(cut)) for cut in cuts], limit))
    return [partial(_joined, plan, [next(parts) for _ in plan], grid) for plan in plans]


def _joined(plan: list[Window], parts: list[Awaited], grid: FrameGrid) -> np.ndarray:
    return join(plan, [part() for part in parts], grid, np.concatenate)


def hidden_states_in_windows(
    ssl: SslModel,
    waveforms_BS: Tensor,
    num_samples_B: Tensor,
    layers: Sequence[int],
    windowing: Windowing,
) -> HiddenStates:
    """The output of `ssl` for a padded batch, long rows in windows; gradients pass through.

    `num_samples_B`, and the numbers of frames that are returned, lie on the host.
    """
    plans = [windowing.plan(num_samples, ssl.grid) for num_samples in num_samples_B.tolist()]
    if all(len(plan) == 1 for plan in plans):
        hidden: HiddenStates = ssl(waveforms_BS, num_samples_B, layers)
        return hidden._replace(num_frames_B=ssl.num_frames(num_samples_B))
    rows = [
        row_S[window.samples]
        for row_S, plan in zip(waveforms_BS, plans, strict=True)
        for window in plan
    ]
    windows_WS, num_samples_W = pad_waveforms(rows)
    hidden_LWTD, _ = ssl(windows_WS, num_samples_W, layers)
    padded = zip(hidden_LWTD.unbind(1), ssl.num_frames(num_samples_W).tolist(), strict=True)
    parts = iter([hidden_LTD[:, :length] for hidden_LTD, length in padded])
    joined = [join(plan, [next(parts) for _ in plan], ssl.grid, torch.cat) for plan in plans]
    padded_TBLD = torch.nn.utils.rnn.pad_sequence(
        [hidden_LTD.transpose(0, 1) for hidden_LTD in joined]
    )
    num_frames_B = torch.tensor([hidden_LTD.shape[1] for hidden_LTD in joined])
    return HiddenStates(padded_TBLD.permute(2, 1, 0, 3), num_frames_B)
