"""From encoded frames to pieces of text: greedy CTC, and joint CTC/attention beam search."""

import torch
from torch import Tensor

from pipeline.asr.ctc_prefix import NEVER, CtcPrefix
from pipeline.asr.decoder import Decoder
from pipeline.asr.text_pieces import BLANK, FIRST_PIECE, SENTENCE_EDGE
from pipeline.config import AsrEvaluation


def greedy_search(log_probs_TV: Tensor) -> list[int]:
    """The text of the likeliest CTC piece of each frame."""
    return pieces_of_frames(log_probs_TV.argmax(-1))


def pieces_of_frames(pieces_T: Tensor) -> list[int]:
    """What CTC reads in a piece for each frame: repeats merged, blanks dropped."""
    merged = torch.unique_consecutive(pieces_T).tolist()
    return [piece for piece in merged if piece >= FIRST_PIECE]


def beam_search(
    log_probs_TV: Tensor, encoded_TD: Tensor, decoder: Decoder, settings: AsrEvaluation
) -> list[int]:
    """The pieces that maximise c log p_ctc + (1 - c) log p_attention among those the beam keeps.

    Partial hypotheses are ranked by their CTC prefix probability (Watanabe et al., 2017). A text
    has at most `max_length_share` pieces for each encoded frame.
    """
    ctc_weight = settings.ctc_weight
    max_pieces = max(1, int(settings.max_length_share * len(encoded_TD)))
    ctc = CtcPrefix(log_probs_TV)
    ctc_state = ctc.begin()
    decoder_state = decoder.begin()
    pieces_NS = torch.tensor([[SENTENCE_EDGE]], device=encoded_TD.device)
    attention_N = torch.zeros(1, dtype=torch.float64, device=encoded_TD.device)
    best_score, best_pieces = -torch.inf, pieces_NS[0]
    for num_pieces in range(max_pieces + 1):
        next_NV, decoder_state = decoder.step(pieces_NS[:, -1], decoder_state, encoded_TD)
        attention_NV = attention_N[:, None] + next_NV
        ended_N = ctc_weight * ctc.complete(ctc_state)
        ended_N += (1 - ctc_weight) * attention_NV[:, SENTENCE_EDGE]
        if ended_N.max() > best_score:
            best_score, best_pieces = float(ended_N.max()), pieces_NS[ended_N.argmax()]
        if num_pieces == max_pieces:
            break
        scores_NV = ctc_weight * ctc.score_extensions(ctc_state) + (1 - ctc_weight) * attention_NV
        scores_NV[:, [BLANK, SENTENCE_EDGE]] = NEVER
        beam_size = min(settings.beam_size, len(scores_NV) * (scores_NV.shape[1] - FIRST_PIECE))
        scores_N, flat_N = scores_NV.flatten().topk(beam_size)
        # No text is likelier than its beginning, so nothing can overtake a better complete text.
        if best_score >= scores_N[0]:
            break
        rows_N, next_N = flat_N // scores_NV.shape[1], flat_N % scores_NV.shape[1]
        attention_N = attention_NV[rows_N, next_N]
        ctc_state = ctc.extend(ctc_state.take(rows_N), next_N)
        decoder_state = decoder_state.take(rows_N)
        pieces_NS = torch.cat((pieces_NS[rows_N], next_N[:, None]), dim=1)
    return best_pieces[1:].tolist()
