"""The partial texts that a search goes on with."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipeline.asr.ctc_prefix import CtcPrefix, CtcState
from pipeline.asr.next_pieces import NextState
from pipeline.asr.text_pieces import FIRST_PIECE, SENTENCE_EDGE


@dataclass(frozen=True)
class Extensions:
    """For each utterance K partial texts (`rows_BK`) with one more piece, best first.

    `scores_BK` is -inf where there are fewer than K; `others_BK` leaves CTC out.
    """

    rows_BK: Tensor
    pieces_BK: Tensor
    scores_BK: Tensor
    others_BK: Tensor


@dataclass(frozen=True)
class Beam:
    """N partial texts of S pieces in each of the B utterances that are not finished.

    Attributes:
        utterances_B: the places of the utterances in the batch.
        limits_B: the most pieces that each may have.
        longer_BL: see `CtcPrefix.at_least`; for all lengths that a text may have, and one more.
        pieces_BNS: the texts, the sentence's beginning included.
        others_BN: their scores without CTC's, in float64; -inf for a text that takes no part.
    """

    utterances_B: Tensor
    limits_B: Tensor
    longer_BL: Tensor
    ctc: CtcPrefix
    pieces_BNS: Tensor
    others_BN: Tensor
    ctc_state: CtcState
    next_state: NextState

    @classmethod
    def of_empty_texts(cls, limits_B: Tensor, ctc: CtcPrefix, next_state: NextState) -> "Beam":
        edges_B11 = torch.full_like(limits_B, SENTENCE_EDGE)[:, None, None]
        others_B1 = torch.zeros_like(limits_B, dtype=torch.float64)[:, None]
        utterances_B = torch.arange(len(limits_B), device=limits_B.device)
        longer_BL = ctc.at_least(int(limits_B.max()) + 1)
        return cls(
            utterances_B,
            limits_B,
            longer_BL,
            ctc,
            edges_B11,
            others_B1,
            ctc.begin(),
            next_state,
        )

    def extended(self, chosen: Extensions, unfinished_B: Tensor) -> "Beam":
        """The chosen extensions, as the texts to go on with; none of a finished utterance."""
        # A text that takes no part needs a piece that its scorers know.
        pieces_BK = chosen.pieces_BK.clamp(min=FIRST_PIECE)
        rows_BKS = chosen.rows_BK[..., None].expand(-1, -1, self.pieces_BNS.shape[2])
        earlier_BKS = self.pieces_BNS.gather(1, rows_BKS)
        return replace(
            self,
            pieces_BNS=torch.cat((earlier_BKS, pieces_BK[..., None]), dim=2),
            others_BN=chosen.others_BK.where(unfinished_B[:, None], -torch.inf),
            ctc_state=self.ctc.extend(self.ctc_state, chosen.rows_BK, pieces_BK),
            next_state=self.next_state.choose(chosen.rows_BK),
        )

    def keep(self, utterances_U: Tensor) -> "Beam":
        """The beam of some of the utterances."""
        return Beam(
            self.utterances_B[utterances_U],
            self.limits_B[utterances_U],
            self.longer_BL[utterances_U],
            self.ctc.keep(utterances_U),
            self.pieces_BNS[utterances_U],
            self.others_BN[utterances_U],
            self.ctc_state.keep(utterances_U),
            self.next_state.keep(utterances_U),
        )
