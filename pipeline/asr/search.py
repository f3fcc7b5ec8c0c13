"""From encoded frames to pieces of text: greedy CTC, and joint CTC/attention beam search."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline.asr.beam import Beam, Extensions
from pipeline.asr.candidates import best_extensions
from pipeline.asr.ctc_prefix import CtcPrefix
from pipeline.asr.decoder import Decoder
from pipeline.asr.encoded import Encoded
from pipeline.asr.nbest import Hypothesis, NBest
from pipeline.asr.next_pieces import NextPieces
from pipeline.asr.scorer import Weighted
from pipeline.asr.text_pieces import BLANK, FIRST_PIECE
from pipeline.config import AsrEvaluation

# The part of a batch that must be finished before the rest is copied to leave it out.
LEAVING_SHARE = 1 / 8


def greedy_search(encoded: Encoded) -> list[list[int]]:
    """For each utterance the text of the likeliest CTC piece of each frame."""
    pieces_BT = encoded.log_probs_BTV.argmax(-1).masked_fill(encoded.padding, BLANK)
    return [pieces_of_frames(pieces_T) for pieces_T in pieces_BT.cpu()]


def pieces_of_frames(pieces_T: Tensor) -> list[int]:
    """What CTC reads in a piece for each frame: repeats merged, blanks dropped."""
    merged = torch.unique_consecutive(pieces_T).tolist()
    return [piece for piece in merged if piece >= FIRST_PIECE]


def beam_search(
    encoded: Encoded, decoder: Decoder, settings: AsrEvaluation, scorers: Sequence[Weighted] = ()
) -> list[list[Hypothesis]]:
    """For each utterance the `nbest` complete texts with the highest scores among those it met.

    A text's score is c log p_ctc + (1 - c) log p_attention + the sum of weight * log p_scorer +
    length_bonus * its number of pieces. Partial texts are ranked with their CTC prefix probability
    (Watanabe et al., 2017) in the place of p_ctc, and `beam_size` of them kept. A text has at most
    `max_length_share` pieces for each encoded frame. No text depends on the batch.

    An utterance is finished when nothing can overtake its complete texts (`highest_continuation`).
    """
    limits_B = (settings.max_length_share * encoded.lengths_B.double()).long().clamp(min=1)
    best = NBest(len(limits_B), settings.nbest, int(limits_B.max()), encoded.device)
    next_pieces = NextPieces(decoder, 1 - settings.ctc_weight, scorers)
    ctc = CtcPrefix.of(encoded.log_probs_BTV, encoded.padding)
    beam = Beam.of_empty_texts(limits_B, ctc, next_pieces.begin(encoded))
    while True:
        newest_BN = beam.pieces_BNS[..., -1]
        next_BNV, ends_BN, next_state = next_pieces.step(newest_BN, beam.next_state)
        beam = replace(beam, next_state=next_state)
        complete_BN = beam.ctc.complete(beam.ctc_state)
        scores_BN = beam.others_BN + ends_BN + settings.ctc_weight * complete_BN
        to_exceed_B = best.add(beam.utterances_B, scores_BN, beam.pieces_BNS[..., 1:])
        chosen = best_extensions(beam, next_BNV, settings)
        finished_B = to_exceed_B >= highest_continuation(beam, chosen, settings)
        num_finished = int(finished_B.sum())
        if num_finished == len(finished_B):
            return best.hypotheses()
        beam = beam.extended(chosen, ~finished_B)
        if num_finished >= LEAVING_SHARE * len(finished_B):
            beam = beam.keep((~finished_B).nonzero()[:, 0])


def highest_continuation(beam: Beam, chosen: Extensions, settings: AsrEvaluation) -> Tensor:
    """What the scores of all texts that begin as one of `chosen` cannot exceed, B.

    No text is likelier than its beginning, to CTC, attention and language models alike. So one of L
    pieces gains at most the bonus of those that are to come, and to CTC it is no likelier than that
    there are L pieces.
    """
    num_pieces = beam.pieces_BNS.shape[2]  # with the newest, without the sentence's beginning
    lengths_L = torch.arange(num_pieces, beam.longer_BL.shape[1], device=beam.limits_B.device)
    others_B = chosen.others_BK.amax(1)
    ctc_BL = settings.ctc_weight * beam.longer_BL[:, num_pieces:]
    likely_BL = torch.minimum(chosen.scores_BK[:, :1], others_B[:, None] + ctc_BL)
    highest_BL = likely_BL + settings.length_bonus * (lengths_L - num_pieces)
    return highest_BL.where(lengths_L <= beam.limits_B[:, None], -torch.inf).amax(1)
