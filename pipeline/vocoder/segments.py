"""Random segments of utterances for training: units, their samples and the speaker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.vocoder.generator import AVERAGE_SPEAKER


@dataclass(frozen=True)
class Clip:
    """An utterance with its units; `read` gives its samples at the vocoder's sample rate."""

    units_T: np.ndarray
    speaker: int
    read: Callable[[], np.ndarray]


class Segments(NamedTuple):
    """A batch: B x T units, B x (hop T) samples, B rows of the speaker embedding."""

    units_BT: Tensor
    waveform_BS: Tensor
    speakers_B: Tensor


class SegmentBatches(Dataset[Segments]):
    """The batches of one worker, indexed by training step.

    Every epoch visits the usable clips once, in an order drawn from (seed, epoch), and cuts one
    segment from each at a position drawn from (seed, step). So a resumed training reads the same
    batches as an uninterrupted one, and the order is random on a single worker too.

    Args:
        clips: utterances; those shorter than a segment are left out (`num_too_short`).
        segment_frames: frames T of a segment.
        batch_size: segments on each worker.
        hop: samples between two frames.
        shift: samples of the recording before the vocoder's first sample.
        seed: of order and positions.
        rank: this worker's number.
        world_size: number of workers, which divide each step's clips among them.
        speaker_dropout: share of segments that the average speaker speaks, so that it is trained to
            stand for unknown speakers.

    Raises:
        ValueError: no clip is as long as a segment.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        *,
        segment_frames: int,
        batch_size: int,
        hop: int,
        shift: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        speaker_dropout: float = 0.0,
    ) -> None:
        self.clips = [clip for clip in clips if len(clip.units_T) >= segment_frames]
        self.num_too_short = len(clips) - len(self.clips)
        if not self.clips:
            raise ValueError(
                f"none of {len(clips)} utterances has the {segment_frames} frames of a segment: "
                "lower vocoder.segment_seconds, or use longer utterances"
            )
        self._segment_frames = segment_frames
        self._batch_size = batch_size
        self._hop = hop
        self._shift = shift
        self._seed = seed
        self._rank = rank
        self._world_size = world_size
        self._speaker_dropout = speaker_dropout

    def __getitem__(self, step: int) -> Segments:
        """This worker's batch of training step `step`, counted from 0; steps have no end."""
        random = np.random.default_rng((self._seed, step, self._rank))
        global_size = self._batch_size * self._world_size
        first = step * global_size + self._rank * self._batch_size
        parts = [
            self._cut(self._clip(position), random)
            for position in range(first, first + self._batch_size)
        ]
        units, waveforms, speakers = zip(*parts, strict=True)
        return Segments(
            torch.from_numpy(np.stack(units).astype(np.int64)),
            torch.from_numpy(np.stack(waveforms).astype(np.float32)),
            torch.tensor(speakers),
        )

    def _clip(self, position: int) -> Clip:
        epoch, rank = divmod(position, len(self.clips))
        order = np.random.default_rng((self._seed, epoch)).permutation(len(self.clips))
        return self.clips[int(order[rank])]

    def _cut(self, clip: Clip, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        first = int(random.integers(len(clip.units_T) - self._segment_frames + 1))
        last = first + self._segment_frames
        dropped = random.random() < self._speaker_dropout
        samples = aligned(clip.read(), len(clip.units_T), self._hop, self._shift)
        return (
            clip.units_T[first:last],
            samples[first * self._hop : last * self._hop],
            AVERAGE_SPEAKER if dropped else clip.speaker,
        )


def aligned(waveform_S: np.ndarray, num_frames: int, hop: int, shift: int) -> np.ndarray:
    """The hop x num_frames samples of a recording whose blocks of `hop` are centred on its frames.

    The tokenizer's frame i is centred at receptive_field / 2 + hop i, the vocoder's at
    hop / 2 + hop i; the recording therefore starts `shift` = (receptive_field - hop) / 2 samples
    in. The rest after the last frame, less than a hop and `shift`, is trimmed; nothing is padded,
    because the last frame's receptive field reaches beyond its hop.

    Raises:
        ValueError: the recording is shorter than its frames, so units and audio do not match.
    """
    end = shift + hop * num_frames
    if len(waveform_S) < end:
        raise ValueError(
            f"{num_frames} frames need {end} samples, the recording has {len(waveform_S)}: the "
            "tokens were made from other audio; delete their folder and run again"
        )
    return waveform_S[shift:end]
