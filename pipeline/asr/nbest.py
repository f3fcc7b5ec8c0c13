"""The best complete texts that a search has met so far."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """A text as ids of pieces, and its score in the search: a weighted log-probability."""

    pieces: tuple[int, ...]
    score: float


class NBest:
    """The `size` best texts of each of B utterances, on the device of the search."""

    def __init__(
        self, num_utterances: int, size: int, max_pieces: int, device: torch.device
    ) -> None:
        shape = (num_utterances, size)
        self._scores = torch.full(shape, -torch.inf, dtype=torch.float64, device=device)
        self._num_pieces = torch.zeros(shape, dtype=torch.long, device=device)
        self._pieces = torch.zeros((*shape, max_pieces), dtype=torch.long, device=device)

    def add(self, utterances_U: Tensor, scores_UN: Tensor, pieces_UNS: Tensor) -> Tensor:
        """Consider N complete texts of S pieces of each of some utterances.

        Returns:
            the score that a further text must exceed to be among the best, of each of them.
        """
        num_pieces = pieces_UNS.shape[2]
        size = self._scores.shape[1]
        all_scores = torch.cat((self._scores[utterances_U], scores_UN), dim=1)
        scores, places_Un = all_scores.topk(size)
        self._scores[utterances_U] = scores
        lengths = torch.cat(
            (self._num_pieces[utterances_U], torch.full_like(scores_UN, num_pieces).long()), dim=1
        )
        self._num_pieces[utterances_U] = lengths.gather(1, places_Un)
        texts = torch.cat((self._pieces[utterances_U, :, :num_pieces], pieces_UNS), dim=1)
        places_UnS = places_Un[..., None].expand(-1, -1, num_pieces)
        self._pieces[utterances_U, :, :num_pieces] = texts.gather(1, places_UnS)
        return scores[:, -1]

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Those of each utterance, best first; fewer than `size` where there are no more.

        There is always one: the empty text with a score of -inf, if every text is ruled out.
        """
        columns = (self._scores.tolist(), self._num_pieces.tolist(), self._pieces.tolist())
        return [
            [
                Hypothesis(tuple(pieces[:length]), score)
                for rank, (score, length, pieces) in enumerate(zip(*rows, strict=True))
                if rank == 0 or score > -torch.inf
            ]
            for rows in zip(*columns, strict=True)
        ]
