"""What attention decoder and language models together say about the next piece."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.asr.decoder import Decoder
from pipeline.asr.decoder_state import DecoderState
from pipeline.asr.encoded import Encoded
from pipeline.asr.scorer import TextState, Weighted
from pipeline.asr.text_pieces import BLANK, SENTENCE_EDGE


@dataclass(frozen=True)
class NextState:
    """What decoder and language models know of N texts in each of B utterances."""

    decoder: DecoderState
    scorers: tuple[TextState, ...]

    def choose(self, rows_BN: Tensor) -> "NextState":
        """Of each utterance the texts at `rows_BN`, some perhaps several times."""
        firsts_B = torch.arange(len(rows_BN), device=rows_BN.device) * self.decoder.num_texts
        rows_R = (firsts_B[:, None] + rows_BN).flatten()
        return NextState(self.decoder.choose(rows_BN), self._take(rows_R))

    def keep(self, utterances_U: Tensor) -> "NextState":
        """The state of some of the utterances."""
        num_texts = self.decoder.num_texts
        texts_N = torch.arange(num_texts, device=utterances_U.device)
        rows_R = (utterances_U[:, None] * num_texts + texts_N).flatten()
        return NextState(self.decoder.keep(utterances_U), self._take(rows_R))

    def _take(self, rows_R: Tensor) -> tuple[TextState, ...]:
        return tuple(state.take(rows_R) for state in self.scorers)


class NextPieces:
    """The weighted sum of the scores of attention and language models."""

    def __init__(
        self,
        decoder: Decoder,
        attention_weight: float,
        scorers: Sequence[Weighted],
    ) -> None:
        self._decoder = decoder
        self._attention_weight = attention_weight
        # Nothing times log 0 is not a number.
        self._scorers = [each for each in scorers if each.weight]

    def begin(self, encoded: Encoded) -> NextState:
        """The state of one text in each utterance, before its first piece."""
        num_texts = len(encoded.lengths_B)
        states = tuple(each.scorer.begin(num_texts, encoded.device) for each in self._scorers)
        return NextState(self._decoder.begin(encoded), states)

    def step(self, newest_BN: Tensor, state: NextState) -> tuple[Tensor, Tensor, NextState]:
        """Read the newest piece of each text.

        Returns:
            what each next piece adds to a text's score, B x N x V in float32, -inf for what is no
            piece of text; what the text's end adds, B x N; the state behind the newest piece.
        """
        scores_BNV, decoder_state = self._decoder.step(newest_BN, state.decoder)
        scores_BNV *= self._attention_weight
        states = []
        for each, scorer_state in zip(self._scorers, state.scorers, strict=True):
            log_probs_RV, read = each.scorer.step(newest_BN.flatten(), scorer_state)
            scores_BNV.add_(log_probs_RV.view_as(scores_BNV), alpha=each.weight)
            states.append(read)
        ends_BN = scores_BNV[..., SENTENCE_EDGE].double()
        for no_text in (BLANK, SENTENCE_EDGE):  # a list of both would be copied to the GPU
            scores_BNV[..., no_text] = -torch.inf
        return scores_BNV, ends_BN, NextState(decoder_state, tuple(states))
