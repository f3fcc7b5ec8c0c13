"""CTC prefix probabilities (Watanabe et al., 2017, algorithm 2) of N prefixes in each of B utterances.

The recurrences over time are written as sums over all frames, which need no Python loop. All values
are float64 logarithms; only the bound is float32.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from pipeline.asr.text_pieces import BLANK

# Stands for log 0; finite, so that the difference of two of them is defined.
NEVER = -1e30

# Neighbouring frames that the bound takes together, and the least probability that it tells from 0.
SEGMENT_FRAMES = 16
LEAST = 1e-30
# The least that float64 tells from 0, with some room for rounding.
LEAST_DOUBLE = 1e-300


@dataclass(frozen=True)
class CtcState:
    """How likely the first t frames (0 … T, so T + 1 columns) spell each prefix.

    `after_B2NT`: in each utterance's even rows the log-probability of all alignments, in the odd ones
    of those whose last frame shows the blank; `last_BN`: the last piece, -1 for none.
    """

    after_B2NT: Tensor
    last_BN: Tensor

    @classmethod
    def of(cls, any_BNT: Tensor, blank_BNT: Tensor, last_BN: Tensor) -> Self:
        return cls(torch.stack((any_BNT, blank_BNT), 2).flatten(1, 2), last_BN)

    def after(self) -> Tensor:
        """B x N x (T + 1): how likely the first t frames spell each prefix, whatever the last shows."""
        return self.after_B2NT[:, ::2]

    def keep(self, utterances_U: Tensor) -> "CtcState":
        """The state of some of the utterances."""
        return CtcState(self.after_B2NT[utterances_U], self.last_BN[utterances_U])

    def leading_up_to(self, utterances: Tensor, rows: Tensor, pieces: Tensor) -> Tensor:
        """Of pairs of a prefix and its next piece: how likely the first t frames lead up to it.

        A piece that follows itself needs a blank in between.
        """
        repeated = self.last_BN[utterances, rows] == pieces
        return self.after_B2NT[utterances, 2 * rows + repeated]


@dataclass(frozen=True)
class CtcPrefix:
    """Scores prefixes of B utterances against CTC's log-probabilities.

    Attributes:
        log_probs_AVT: those of all utterances that there were at first.
        places_B: where each utterance is among them.
        peaks_BGV: the highest probability of each piece in each segment of frames.
    """

    log_probs_AVT: Tensor
    places_B: Tensor
    peaks_BGV: Tensor

    @classmethod
    def of(cls, log_probs_BTV: Tensor, padding_BT: Tensor) -> Self:
        """`log_probs_BTV` must be finite.

        After an utterance's end, where `padding_BT` is true, every alignment goes on with blanks.
        """
        log_probs_BVT = log_probs_BTV.transpose(1, 2).contiguous()
        log_probs_BVT.masked_fill_(padding_BT[:, None], NEVER)
        log_probs_BVT[:, BLANK].masked_fill_(padding_BT, 0.0)
        peaks_BVG = torch.nn.functional.max_pool1d(log_probs_BVT, SEGMENT_FRAMES, ceil_mode=True)
        places_B = torch.arange(len(padding_BT), device=padding_BT.device)
        return cls(log_probs_BVT, places_B, peaks_BVG.float().exp().transpose(1, 2).contiguous())

    def keep(self, utterances_U: Tensor) -> "CtcPrefix":
        """The scorer of some of the utterances."""
        # The log-probabilities are the largest part of a search: they stay where they are.
        places_U, peaks_UGV = self.places_B[utterances_U], self.peaks_BGV[utterances_U]
        return CtcPrefix(self.log_probs_AVT, places_U, peaks_UGV)

    def _shown(self, places: Tensor, pieces: Tensor) -> Tensor:
        """Log-probability of each of some pieces in each frame, ... x T."""
        return self.log_probs_AVT[places, pieces].double()

    def _blank_shown(self) -> Tensor:
        """B x 1 x T."""
        return self.log_probs_AVT[self.places_B, BLANK].double()[:, None]

    def begin(self) -> CtcState:
        """The empty prefix of each utterance, N = 1."""
        blank_B1T = _held(self._blank_shown())
        nothing_B1 = torch.full_like(self.places_B, -1)[:, None]
        return CtcState.of(blank_B1T, blank_B1T, nothing_B1)

    def complete(self, state: CtcState) -> Tensor:
        """Log p(the prefix and nothing after it), B x N."""
        return state.after()[..., -1]

    def score(self, state: CtcState, rows_BM: Tensor, pieces_BM: Tensor) -> Tensor:
        """Log p(any text that begins with prefix `rows_BM` and then `pieces_BM`), B x M."""
        return self.score_pairs(state, _utterances(rows_BM), rows_BM, pieces_BM)

    def score_pairs(
        self, state: CtcState, utterances: Tensor, rows: Tensor, pieces: Tensor
    ) -> Tensor:
        """The same of pairs of a prefix and a piece in any utterances, in the shape of `rows`."""
        before = state.leading_up_to(utterances, rows, pieces)[..., :-1]
        shown = self._shown(self.places_B[utterances], pieces)
        return (before + shown).logsumexp(-1).clamp(min=NEVER)

    def score_all(self, state: CtcState) -> Tensor:
        """The same for every prefix and piece, B x N x V; the blank's column has no meaning."""
        before_BNT = state.after()[..., :-1]
        peak_BN1 = before_BNT.amax(-1, keepdim=True)
        probs_BTV = self.log_probs_AVT[self.places_B].double().exp().transpose(1, 2)
        scores_BNV = ((before_BNT - peak_BN1).exp() @ probs_BTV).log() + peak_BN1
        rows_BN = torch.arange(before_BNT.shape[1], device=before_BNT.device).expand(
            before_BNT.shape[:2]
        )
        last_BN = state.last_BN.clamp(min=BLANK)
        repeated_BN = self.score(state, rows_BN, last_BN)
        return scores_BNV.scatter(2, last_BN[..., None], repeated_BN[..., None]).clamp(min=NEVER)

    def bound(self, state: CtcState) -> tuple[Tensor, Tensor]:
        """What no score exceeds by more than rounding, in float32: B x N x V plus B x N x 1.

        It takes every frame of a segment to show each piece as the likeliest one does.
        """
        before_BNT = state.after()[..., :-1]
        missing = -before_BNT.shape[-1] % SEGMENT_FRAMES
        padded_BNT = torch.nn.functional.pad(before_BNT, (0, missing), value=NEVER)
        segments_BNG: Tensor = padded_BNT.unflatten(-1, (-1, SEGMENT_FRAMES)).logsumexp(-1)
        peak_BN1 = segments_BNG.amax(-1, keepdim=True)
        weights_BNG = (segments_BNG - peak_BN1).float().exp()
        # Logarithms of numbers that float32 tells from 0.
        least = weights_BNG.new_full((1, 1, 1), LEAST)
        return torch.baddbmm(least, weights_BNG, self.peaks_BGV).log_(), peak_BN1.float()

    def at_least(self, most: int) -> Tensor:
        """What log p(a text of L pieces or more) cannot exceed, L = 0 … `most`, B x (most + 1).

        Each piece shows in a frame of its own, so it is the log-probability that L frames or more
        show no blank.
        """
        blank_BT = self._blank_shown()[:, 0].exp()
        shown_BL = torch.nn.functional.pad(torch.ones_like(blank_BT[:, :1]), (0, blank_BT.shape[1]))
        for blank_B1 in blank_BT.split(1, dim=1):
            one_more_BL = torch.nn.functional.pad(shown_BL[:, :-1], (1, 0))
            shown_BL = shown_BL * blank_B1 + one_more_BL * (1 - blank_B1)
        tail_BL = shown_BL.flip(1).cumsum(1).flip(1).clamp(min=LEAST_DOUBLE).log()
        missing = most + 1 - tail_BL.shape[1]
        return torch.nn.functional.pad(tail_BL, (0, missing), value=NEVER)

    def extend(self, state: CtcState, rows_BN: Tensor, pieces_BN: Tensor) -> CtcState:
        """The prefixes at `rows_BN`, each with one more piece.

        With before_t the probability of the old prefix up to frame t - 1, piece_t =
        (piece_(t-1) + before_t) p_t(piece), which is a sum over the frame s where the piece first
        shows: before_s times the probability that it is held from s to t. Likewise for blanks.
        """
        before_BNT = state.leading_up_to(_utterances(rows_BN), rows_BN, pieces_BN)
        held_BNT = _held(self._shown(self.places_B[:, None], pieces_BN))
        piece_BNT = _hold(before_BNT, held_BNT)
        blank_BNT = _hold(piece_BNT, _held(self._blank_shown()))
        return CtcState.of(torch.logaddexp(piece_BNT, blank_BNT), blank_BNT, pieces_BN)


def _utterances(rows_BM: Tensor) -> Tensor:
    """The number of each one, B x 1."""
    return torch.arange(len(rows_BM), device=rows_BM.device)[:, None]


def _held(log_probs_BNT: Tensor) -> Tensor:
    """Log-probability that the first t frames (0 … T) all show the symbol."""
    return torch.nn.functional.pad(log_probs_BNT.cumsum(-1), (1, 0))


def _hold(before_BNT: Tensor, held_BNT: Tensor) -> Tensor:
    """Log of sum_(s <= t) exp(before_(s-1)) times the symbol shown from frame s to frame t."""
    since_BNT = torch.logcumsumexp(before_BNT - held_BNT, dim=-1)[..., :-1] + held_BNT[..., 1:]
    return torch.nn.functional.pad(since_BNT.clamp(min=NEVER), (1, 0), value=NEVER)
