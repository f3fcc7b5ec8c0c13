"""Which texts of one more piece a search goes on with: the best of them, by exact scores of a few."""

import torch
from torch import Tensor

from pipeline.asr.beam import Beam, Extensions
from pipeline.config import AsrEvaluation

# Candidates for each place in the beam whose exact CTC scores are computed: at first, and at most where
# these leave a doubt.
CANDIDATES_PER_PLACE = (3, 16)

# More than the bounds are rounded by.
SLACK = 1e-2


def best_extensions(beam: Beam, next_BNV: Tensor, settings: AsrEvaluation) -> Extensions:
    """The `beam_size` best texts of one more piece, by exact scores.

    Only the scores of those candidates are computed that may be among them by a cheap bound: of a few
    at first, of those further ones that the bound leaves in doubt, and of all in an utterance where it
    still does.
    """
    num_candidates, weight = next_BNV[0].numel(), settings.ctc_weight
    size = min(settings.beam_size, num_candidates)
    few, many = (min(each * size, num_candidates) for each in CANDIDATES_PER_PLACE)
    others_BN, ctc, state = beam.others_BN + settings.length_bonus, beam.ctc, beam.ctc_state
    highest_BC = _bound(beam, others_BN, next_BNV, weight)
    # One more than may be scored: what the next one cannot exceed, no further one can.
    bound_BM, flat_BM = highest_BC.topk(min(many + 1, num_candidates))
    rows_BM, pieces_BM = _rows_and_pieces(flat_BM, next_BNV)
    others_BM = others_BN.gather(1, rows_BM) + next_BNV.flatten(1).gather(1, flat_BM)
    scores_BM = torch.full_like(others_BM, -torch.inf)
    ctc_BM = ctc.score(state, rows_BM[:, :few], pieces_BM[:, :few])
    scores_BM[:, :few] = others_BM[:, :few] + weight * ctc_BM
    doubtful_P2 = _doubtful(scores_BM[:, :few].topk(size).values, bound_BM[:, few:])
    if len(doubtful_P2):
        of_P = (doubtful_P2[:, 0], few + doubtful_P2[:, 1])
        ctc_P = ctc.score_pairs(state, of_P[0], rows_BM[of_P], pieces_BM[of_P])
        scores_BM[of_P] = others_BM[of_P] + weight * ctc_P
    scores_BK, places_BK = scores_BM.topk(size)
    flat_BK, others_BK = flat_BM.gather(1, places_BK), others_BM.gather(1, places_BK)
    for one in _doubtful(scores_BK, bound_BM[:, many:])[:, :1]:
        others_C = (others_BN[one, :, None] + next_BNV[one]).flatten()
        ctc_C = ctc.keep(one).score_all(state.keep(one)).flatten()
        scores_BK[one], flat_BK[one] = (others_C + weight * ctc_C).topk(size)
        others_BK[one] = others_C[flat_BK[one]]
    return Extensions(*_rows_and_pieces(flat_BK, next_BNV), scores_BK, others_BK)


def _doubtful(scores_BK: Tensor, bound_BM: Tensor) -> Tensor:
    """Utterance and column, P x 2, of what might be among the best: it is at most `bound_BM`."""
    return (scores_BK[:, -1:] < bound_BM + SLACK).nonzero()


def _bound(beam: Beam, others_BN: Tensor, next_BNV: Tensor, ctc_weight: float) -> Tensor:
    """What the scores of all N * V candidates cannot exceed by more than `SLACK`."""
    bound_BNV, rows_BN1 = beam.ctc.bound(beam.ctc_state)
    torch.add(next_BNV, bound_BNV, alpha=ctc_weight, out=bound_BNV)
    bound_BNV += rows_BN1.mul(ctc_weight).add(others_BN[..., None]).float()
    return bound_BNV.flatten(1)


def _rows_and_pieces(flat_BM: Tensor, next_BNV: Tensor) -> tuple[Tensor, Tensor]:
    num_pieces = next_BNV.shape[2]
    return flat_BM // num_pieces, flat_BM % num_pieces
