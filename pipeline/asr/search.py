"""From embedded frames to text: greedy CTC, and joint CTC/attention beam search."""

import torch
from torch import Tensor

from pipeline.asr.ctc_prefix import NEVER, CtcPrefix
from pipeline.asr.model import AsrModel
from pipeline.asr.text_units import BLANK, FIRST_UNIT, SENTENCE_EDGE


@torch.no_grad()
def greedy_ctc(model: AsrModel, embedded_BTE: Tensor, num_frames_B: Tensor) -> list[str]:
    """The text of the likeliest CTC unit of each frame: repeats merged, blanks dropped."""
    encoded_BTD, lengths_B = _encode(model, embedded_BTE, num_frames_B)
    best_BT = model.ctc_log_probs(encoded_BTD).argmax(-1)
    texts = []
    for best_T, length in zip(best_BT, lengths_B.tolist(), strict=True):
        merged = torch.unique_consecutive(best_T[:length]).tolist()
        texts.append(_text(model, [unit for unit in merged if unit >= FIRST_UNIT]))
    return texts


@torch.no_grad()
def beam_search(
    model: AsrModel,
    embedded_BTE: Tensor,
    num_frames_B: Tensor,
    *,
    beam_size: int,
    ctc_weight: float,
    max_length_share: float,
) -> list[str]:
    """The texts that maximise c log p_ctc + (1 - c) log p_attention, as far as the beam sees.

    Partial hypotheses are ranked with their CTC prefix probability (Watanabe et al., 2017). A
    text has at most `max_length_share` units for each encoded frame.
    """
    encoded_BTD, lengths_B = _encode(model, embedded_BTE, num_frames_B)
    texts = []
    for encoded_TD, length in zip(encoded_BTD, lengths_B.tolist(), strict=True):
        max_units = max(1, int(max_length_share * length))
        units = _search_one(model, encoded_TD[:length], beam_size, ctc_weight, max_units)
        texts.append(_text(model, units))
    return texts


def _encode(model: AsrModel, embedded_BTE: Tensor, num_frames_B: Tensor) -> tuple[Tensor, Tensor]:
    if model.training:
        raise ValueError("search needs a model in evaluation mode: call model.eval() first")
    if int(num_frames_B.min()) < 1:
        raise ValueError("an utterance without frames has nothing to search: leave it out")
    return model.encode(embedded_BTE, num_frames_B)


def _search_one(
    model: AsrModel, encoded_TD: Tensor, beam_size: int, ctc_weight: float, max_units: int
) -> list[int]:
    ctc = CtcPrefix(model.ctc_log_probs(encoded_TD))
    ctc_state = ctc.begin()
    decoder_state = model.decoder.begin()
    tokens_NS = torch.tensor([[SENTENCE_EDGE]], device=encoded_TD.device)
    attention_N = torch.zeros(1, dtype=torch.float64, device=encoded_TD.device)
    best_score, best_tokens = -torch.inf, tokens_NS[0]
    for num_units in range(max_units + 1):
        next_NV, decoder_state = model.decoder.step(tokens_NS[:, -1], decoder_state, encoded_TD)
        attention_NV = attention_N[:, None] + next_NV
        ended_N = ctc_weight * ctc.complete(ctc_state)
        ended_N += (1 - ctc_weight) * attention_NV[:, SENTENCE_EDGE]
        if ended_N.max() > best_score:
            best_score, best_tokens = float(ended_N.max()), tokens_NS[ended_N.argmax()]
        if num_units == max_units:
            break
        scores_NV = ctc_weight * ctc.score_extensions(ctc_state) + (1 - ctc_weight) * attention_NV
        scores_NV[:, [BLANK, SENTENCE_EDGE]] = NEVER
        kept = min(beam_size, len(scores_NV) * (scores_NV.shape[1] - FIRST_UNIT))
        scores_N, flat_N = scores_NV.flatten().topk(kept)
        # No text is likelier than what it begins with: what leads now cannot be caught any more.
        if best_score >= scores_N[0]:
            break
        rows_N, units_N = flat_N // scores_NV.shape[1], flat_N % scores_NV.shape[1]
        attention_N = attention_NV[rows_N, units_N]
        ctc_state = ctc.extend(ctc_state.take(rows_N), units_N)
        decoder_state = decoder_state.take(rows_N)
        tokens_NS = torch.cat((tokens_NS[rows_N], units_N[:, None]), dim=1)
    return best_tokens[1:].tolist()


def _text(model: AsrModel, units: list[int]) -> str:
    return " ".join(model.text_units.decode(units).split())
