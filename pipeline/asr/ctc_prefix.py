"""CTC prefix probabilities (Watanabe et al., 2017, algorithm 2), for many hypotheses at once.

The recurrences over time are written as sums over all frames, which need no Python loop. All values
are float64 logarithms.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.asr.text_pieces import BLANK

# Stands for log 0; finite, so that the difference of two of them is defined.
NEVER = -1e30


@dataclass(frozen=True)
class CtcState:
    """How likely the first t frames (0 … T, so T + 1 columns) spell each of N prefixes.

    `piece_NT`: log-probability of the alignments whose last frame shows the prefix's last piece;
    `blank_NT`: of those whose last frame shows the blank; `last_N`: the last piece, -1 for none.
    """

    piece_NT: Tensor
    blank_NT: Tensor
    last_N: Tensor

    def take(self, rows_N: Tensor) -> "CtcState":
        return CtcState(self.piece_NT[rows_N], self.blank_NT[rows_N], self.last_N[rows_N])


class CtcPrefix:
    """Scores prefixes against one utterance's `log_probs_TV`, which must be finite."""

    def __init__(self, log_probs_TV: Tensor) -> None:
        log_probs_TV = log_probs_TV.double()
        self._probs_TV = log_probs_TV.exp()
        self._log_probs_VT = log_probs_TV.T.contiguous()
        # Column t: log-probability that the first t frames all show the piece.
        self._held_VT = torch.nn.functional.pad(self._log_probs_VT.cumsum(-1), (1, 0))

    def begin(self) -> CtcState:
        """The empty prefix, N = 1."""
        blank_1T = self._held_VT[BLANK][None]
        nothing = torch.tensor([-1], device=blank_1T.device)
        return CtcState(torch.full_like(blank_1T, NEVER), blank_1T, nothing)

    def complete(self, state: CtcState) -> Tensor:
        """Log p(the prefix and nothing after it), N."""
        return torch.logaddexp(state.piece_NT[:, -1], state.blank_NT[:, -1])

    def score_extensions(self, state: CtcState) -> Tensor:
        """Log p(any text that begins with the prefix and one more piece), N x V.

        The blank's column has no meaning.
        """
        any_NT = torch.logaddexp(state.piece_NT, state.blank_NT)[:, :-1]
        scores_NV = self._first_shown(any_NT)
        # A piece that follows itself needs a blank in between.
        repeated = state.last_N >= 0
        pieces_R = state.last_N[repeated]
        rises_RT = state.blank_NT[repeated, :-1] + self._log_probs_VT[pieces_R]
        scores_NV[repeated, pieces_R] = rises_RT.logsumexp(-1)
        return scores_NV.clamp(min=NEVER)

    def _first_shown(self, before_NT: Tensor) -> Tensor:
        """Log of sum_t exp(before_nt) p_t(v), N x V, as one product of matrices."""
        peak_N1 = before_NT.amax(-1, keepdim=True)
        return ((before_NT - peak_N1).exp() @ self._probs_TV).log() + peak_N1

    def extend(self, state: CtcState, pieces_N: Tensor) -> CtcState:
        """Each prefix with one more piece.

        With before_t the probability of the old prefix up to frame t - 1, piece_t =
        (piece_(t-1) + before_t) p_t(piece), which is a sum over the frame s where the piece first
        shows: before_s times the probability that it is held from s to t. Likewise for blanks.
        """
        follows_itself_N1 = (pieces_N == state.last_N)[:, None]
        any_NT = torch.logaddexp(state.piece_NT, state.blank_NT)
        before_NT = torch.where(follows_itself_N1, state.blank_NT, any_NT)
        piece_NT = _hold(before_NT, self._held_VT[pieces_N])
        blank_NT = _hold(piece_NT, self._held_VT[BLANK][None])
        return CtcState(piece_NT, blank_NT, pieces_N)


def _hold(before_NT: Tensor, held_NT: Tensor) -> Tensor:
    """Log of sum_(s <= t) exp(before_(s-1)) times the symbol shown from frame s to frame t."""
    since_NT = torch.logcumsumexp(before_NT - held_NT, dim=-1)[:, :-1] + held_NT[:, 1:]
    return torch.nn.functional.pad(since_NT.clamp(min=NEVER), (1, 0), value=NEVER)
