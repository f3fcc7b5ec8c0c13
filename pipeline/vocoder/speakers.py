"""Who speaks: a vector for each speaker of a table, or one made of any speaker's voice.

Either takes *keys*, one for each utterance of a batch, so that nothing else has to know which it is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from pipeline.config import Vocoder
from pipeline.vocoder.material import require_speaker
from pipeline.vocoder.voice import LOG2_F0, UNKNOWN_LOG2_F0, VOICE_DIM, Voice

AVERAGE_SPEAKER = -1
# Deviations from the training speakers' mean; beyond, a recording says more than the voice.
FARTHEST = 3.0

NO_VOICE = (
    "this vocoder has a table of its training speakers and cannot take a voice: train one with "
    "`vocoder.speaker: encoder`, or name a speaker"
)

Key = np.ndarray


class Speakers(NamedTuple):
    """B x S vectors, and B means of log2 F0; a table knows none, so the vectors tell it."""

    vectors_BS: Tensor
    log2_f0_B: Tensor


class SpeakerRows(nn.Embedding):
    """A trained vector for each speaker; the mean of all stands for `AVERAGE_SPEAKER`."""

    def forward(self, rows_B: Tensor) -> Tensor:
        vectors_BS = super().forward(rows_B.clamp(min=0))
        average_B = rows_B == AVERAGE_SPEAKER
        return torch.where(average_B[:, None], self.weight.mean(dim=0), vectors_BS)


class SpeakerTable(nn.Module):
    """A trained vector for each training speaker; a key is the number of its row.

    Args:
        names: of the training speakers.
        dim: S of the vectors.
        unseen: the training speaker who speaks for all others; `None` is the average of all.
    """

    def __init__(self, names: Sequence[str], dim: int, unseen: str | None) -> None:
        super().__init__()
        self.names = tuple(names)
        self.unseen = unseen
        self.embedding = SpeakerRows(len(names), dim)

    def key(self, speaker: str | Voice | None) -> Key:
        """The row of a speaker, or of who stands for unknown ones.

        Raises:
            ValueError: a voice is given.
        """
        if isinstance(speaker, np.ndarray):
            raise ValueError(NO_VOICE)  # noqa: TRY004 - of the right type, for another vocoder
        known = speaker if speaker in self.names else self.unseen
        return np.array(AVERAGE_SPEAKER if known is None else self.names.index(known))

    def forward(self, keys_B: Tensor) -> Speakers:
        vectors_BS = self.embedding(keys_B)
        return Speakers(vectors_BS, vectors_BS.new_full(keys_B.shape, UNKNOWN_LOG2_F0))


class SpeakerEncoder(nn.Module):
    """A vector made of a voice (`vocoder.voice`), so that anybody can speak; a key is the voice.

    Args:
        names: of the training speakers.
        dim: S of the vectors.
        unseen: the training speaker who speaks where no voice is given; `None` is the mean of all.
    """

    voices_NV: Tensor
    mean_V: Tensor
    deviation_V: Tensor

    def __init__(self, names: Sequence[str], dim: int, unseen: str | None) -> None:
        super().__init__()
        self.names = tuple(names)
        self.unseen = unseen
        self.first = nn.Linear(VOICE_DIM, 2 * dim)
        self.last = nn.Linear(2 * dim, dim)
        self.register_buffer("voices_NV", torch.zeros(len(names), VOICE_DIM))
        self.register_buffer("mean_V", torch.zeros(VOICE_DIM))
        self.register_buffer("deviation_V", torch.ones(VOICE_DIM))

    def hear(self, voices: Sequence[Sequence[Voice]]) -> None:
        """Take the voices of each training speaker, from some utterances each, in the order of names."""
        every_RV = torch.from_numpy(np.stack([voice for own in voices for voice in own]))
        means = [torch.from_numpy(np.stack(own)).mean(dim=0) for own in voices]
        self.voices_NV.copy_(torch.stack(means))
        self.mean_V.copy_(every_RV.mean(dim=0))
        self.deviation_V.copy_(every_RV.std(dim=0, correction=0).clamp(min=0.05))

    def key(self, speaker: str | Voice | None) -> Key:
        """The voice itself, or that of a training speaker, or what stands for unknown ones."""
        if isinstance(speaker, np.ndarray):
            return speaker
        known = speaker if speaker in self.names else self.unseen
        voice_V = self.mean_V if known is None else self.voices_NV[self.names.index(known)]
        return voice_V.cpu().numpy()

    def forward(self, keys_BV: Tensor) -> Speakers:
        standard_BV = ((keys_BV - self.mean_V) / self.deviation_V).clamp(-FARTHEST, FARTHEST)
        vectors_BS: Tensor = self.last(gelu(self.first(standard_BV)))
        return Speakers(vectors_BS, keys_BV[:, LOG2_F0])


def make_speakers(settings: Vocoder, names: Sequence[str]) -> SpeakerTable | SpeakerEncoder:
    """As `vocoder.speaker` says.

    Raises:
        ConfigError: `vocoder.unseen_speaker` is not among the names.
    """
    require_speaker(settings.unseen_speaker, names)
    kind = SpeakerEncoder if settings.speaker == "encoder" else SpeakerTable
    return kind(names, settings.speaker_dim, settings.unseen_speaker)
