"""Random segments of utterances for training: units, their samples, the speaker and F0."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pipeline.vocoder.material import require_length


@dataclass(frozen=True)
class Clip:
    """An utterance with its units; `read` gives its samples at the vocoder's sample rate.

    Any of `speakers` may be taken for the key of its speaker (`vocoder.speakers`).
    """

    units_T: np.ndarray
    speakers: Sequence[np.ndarray]
    read: Callable[[], np.ndarray]


class Segments(NamedTuple):
    """A batch: B x T units, B x (hop T) samples, B keys of speakers, B x T hertz (0 is unvoiced)."""

    units_BT: Tensor
    waveform_BS: Tensor
    speakers_B: Tensor
    f0_BT: Tensor


class _Place(NamedTuple):
    """Which clip a segment is cut from, at which of its frames, and the key of who speaks it."""

    clip: int
    first: int
    speaker: np.ndarray


@dataclass(kw_only=True)
class SegmentBatches(Dataset[Segments]):
    """One worker's shares of the batches, indexed by training step.

    Every epoch visits the usable clips once, in an order drawn from (seed, epoch), and cuts one
    segment from each at a position drawn from (seed, step). So a resumed training reads the same
    batches as an uninterrupted one, and the order is random on a single worker too.

    Attributes:
        clips: utterances; those shorter than a segment are left out (`num_too_short`).
        segment_frames: frames T of a segment.
        batch_size: segments of a step, which the `world_size` workers share.
        hop: samples between two frames.
        shift: where in the recording the vocoder's first sample is; before it, if negative.
        average_speaker: the key of who speaks for unknown speakers.
        speaker_dropout: share of segments that the average speaker speaks, so that it is trained.
        track: gives F0 of an utterance's frames from the samples that belong to them; without it,
            all are 0.

    Raises:
        ConfigError: no clip is as long as a segment.
    """

    clips: Sequence[Clip]
    segment_frames: int
    batch_size: int
    hop: int
    shift: int
    seed: int
    rank: int = 0
    world_size: int = 1
    average_speaker: np.ndarray
    speaker_dropout: float = 0.0
    track: Callable[[np.ndarray], np.ndarray] | None = None
    _tracked: dict[int, np.ndarray] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        require_length([len(clip.units_T) for clip in self.clips], self.segment_frames)
        given = len(self.clips)
        self.clips = [clip for clip in self.clips if len(clip.units_T) >= self.segment_frames]
        self.num_too_short = given - len(self.clips)

    def __getitem__(self, step: int) -> Segments:
        """This worker's share of training step `step`, counted from 0; steps have no end."""
        random = np.random.default_rng((self.seed, step))
        first = step * self.batch_size
        # All places are drawn, so that a segment's is the same for any number of workers.
        places = [self._place(first + number, random) for number in range(self.batch_size)]
        parts = [self._cut(place) for place in places[self.rank :: self.world_size]]
        units, waveforms, speakers, f0 = zip(*parts, strict=True)
        return Segments(
            torch.from_numpy(np.stack(units).astype(np.int64)),
            torch.from_numpy(np.stack(waveforms).astype(np.float32)),
            torch.from_numpy(np.stack(speakers)),
            torch.from_numpy(np.stack(f0).astype(np.float32)),
        )

    def _clip(self, position: int) -> int:
        epoch, rank = divmod(position, len(self.clips))
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.clips))
        return int(order[rank])

    def _place(self, position: int, random: np.random.Generator) -> _Place:
        index = self._clip(position)
        clip = self.clips[index]
        first = int(random.integers(len(clip.units_T) - self.segment_frames + 1))
        dropped = random.random() < self.speaker_dropout
        speaker = clip.speakers[int(random.integers(len(clip.speakers)))]
        return _Place(index, first, self.average_speaker if dropped else speaker)

    def _cut(self, place: _Place) -> tuple[np.ndarray, ...]:
        clip, first, last = self.clips[place.clip], place.first, place.first + self.segment_frames
        samples = aligned(clip.read(), len(clip.units_T), self.hop, self.shift)
        return (
            clip.units_T[first:last],
            samples[first * self.hop : last * self.hop],
            place.speaker,
            self._f0(place.clip, samples)[first:last],
        )

    def _f0(self, index: int, samples: np.ndarray) -> np.ndarray:
        """F0 of a clip's frames, which is measured once: that takes longer than to cut a segment."""
        if self.track is None:
            return np.zeros(len(self.clips[index].units_T))
        if index not in self._tracked:
            self._tracked[index] = self.track(samples).astype(np.float32)
        return self._tracked[index]


def aligned(waveform_S: np.ndarray, num_frames: int, hop: int, shift: int) -> np.ndarray:
    """The hop x num_frames samples of a recording whose blocks of `hop` are centred on its frames.

    The tokenizer's frame i is centred at start + receptive_field / 2 + hop i, the vocoder's at
    hop / 2 + hop i; the result therefore starts at sample `shift` of the recording, with zeros for
    what lies before it. The rest after the last frame is trimmed; nothing is padded there, because
    a frame's samples reach as far as its hop or farther.

    Raises:
        ValueError: the recording is shorter than its frames, so units and audio do not match.
    """
    end = shift + hop * num_frames
    if len(waveform_S) < end:
        raise ValueError(
            f"{num_frames} frames need {end} samples, the recording has {len(waveform_S)}: the "
            "tokens were made from other audio; delete their folder and run again"
        )
    return np.pad(waveform_S[max(shift, 0) : end], (max(-shift, 0), 0))
