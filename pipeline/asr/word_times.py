"""When each piece and word of a text was said: the likeliest CTC alignment of the text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torchaudio.functional import forced_align

from pipeline.asr.encoded import Encoded
from pipeline.asr.model import AsrModel
from pipeline.asr.subsampling import fits
from pipeline.asr.text_pieces import BLANK
from pipeline.audio.frame_grid import FrameGrid


@dataclass(frozen=True)
class FrameTimes:
    """Encoded frame i stands for `step` seconds from `first + i * step` on."""

    first: float
    step: float

    @classmethod
    def of(cls, grid: FrameGrid, subsampling: int) -> Self:
        """Each encoded frame is centred on one SSL frame in `subsampling`, the first on the first."""
        step = subsampling / grid.frames_per_second
        return cls(grid.centre_seconds(0) - step / 2, step)

    def span(self, first_frame: int, last_frame: int) -> tuple[float, float]:
        """Start and end of some frames, in seconds; no time is before the audio."""
        start, end = (self.first + self.step * frame for frame in (first_frame, last_frame + 1))
        return max(0.0, start), max(0.0, end)


class TimedPiece(NamedTuple):
    """A piece of text by its `spelling`, from `start` to `end` seconds.

    `score` is its mean probability in these frames, by CTC: 0 to 1.
    """

    spelling: str
    start: float
    end: float
    score: float

    def later(self, seconds: float) -> "TimedPiece":
        return self._replace(start=self.start + seconds, end=self.end + seconds)


class Word(NamedTuple):
    """A word from `start` to `end` seconds; `score` is the mean of those of its pieces."""

    text: str
    start: float
    end: float
    score: float


def align(
    model: AsrModel, heard: Encoded, texts: Sequence[str], times: FrameTimes
) -> list[list[TimedPiece]]:
    """The pieces of each text in the utterance that it was said in.

    Pieces that are too many for an utterance's frames are spread evenly over it, with a score of 0.
    """
    lengths, log_probs_BTV = heard.lengths_B.tolist(), heard.log_probs_BTV.cpu()
    return [
        _timed(model, log_probs_TV[:length], model.text_pieces.encode(text), times)
        for log_probs_TV, length, text in zip(log_probs_BTV, lengths, texts, strict=True)
    ]


def words_of(pieces: Iterable[TimedPiece]) -> list[Word]:
    """The words that pieces spell: what white space separates, within pieces or between them."""
    characters = [(character, piece) for piece in pieces for character in piece.spelling]
    runs = groupby(characters, key=lambda each: each[0].isspace())
    return [_word(list(run)) for is_space, run in runs if not is_space]


def _word(run: Sequence[tuple[str, TimedPiece]]) -> Word:
    # A piece of several characters counts once.
    pieces = list(dict.fromkeys(piece for _, piece in run))
    text = "".join(character for character, _ in run)
    score = sum(piece.score for piece in pieces) / len(pieces)
    return Word(text, pieces[0].start, pieces[-1].end, score)


def _timed(
    model: AsrModel, log_probs_TV: Tensor, target: Sequence[int], times: FrameTimes
) -> list[TimedPiece]:
    spans = best_alignment(log_probs_TV, target)
    return [
        TimedPiece(model.text_pieces.spelling(piece), *times.span(first, last), score)
        for piece, (first, last, score) in zip(target, spans, strict=True)
    ]


def best_alignment(log_probs_TV: Tensor, target: Sequence[int]) -> list[tuple[int, int, float]]:
    """First and last frame of each piece in the likeliest alignment, and its mean probability there."""
    if not target:
        return []
    num_frames = len(log_probs_TV)
    if not fits(num_frames, target, subsampling=1):
        shares = [index * num_frames // len(target) for index in range(len(target))]
        return [(frame, frame, 0.0) for frame in shares]
    path_1T, log_probs_1T = forced_align(
        log_probs_TV[None].float(), torch.tensor([list(target)], dtype=torch.int32), blank=BLANK
    )
    runs = groupby(range(num_frames), key=path_1T[0].tolist().__getitem__)
    shown = [list(frames) for piece, frames in runs if piece != BLANK]
    probs = log_probs_1T[0].exp()
    return [(frames[0], frames[-1], float(probs[frames].mean())) for frames in shown]
