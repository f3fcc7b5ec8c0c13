"""WavLM's blocks with one position bias and one mask for all of them.

transformers makes both anew in every block, repeats the bias for each row, and asks torch for the
mean of the attention weights over all heads, which nothing here reads: so all T x T weights of every
head are stored. It also passes the projections' weights to torch instead of calling the layers,
which bypasses faster ones.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.wavlm import modeling_wavlm

ENCODERS = (modeling_wavlm.WavLMEncoder, modeling_wavlm.WavLMEncoderStableLayerNorm)


def replace_attention(module: nn.Module) -> None:
    """Let every WavLM encoder inside `module` compute with `encode`, and its blocks with `attend`."""
    for part in module.modules():
        if isinstance(part, ENCODERS):
            part.forward = MethodType(encode, part)  # type: ignore[method-assign] # replaced
        if isinstance(part, modeling_wavlm.WavLMAttention):
            part.forward = MethodType(attend, part)  # type: ignore[method-assign] # replaced


def encode(
    encoder: Any, frames_BTD: Tensor, attention_mask: Tensor | None = None
) -> BaseModelOutput:
    """The last layer of a transformers encoder of WavLM.

    Args:
        encoder: the layers, in either of the two orders that WavLM's norms come in.
        frames_BTD: the projected frames.
        attention_mask: B x T, true where a row has a frame; `None` if all have.
    """
    norm_is_last = isinstance(encoder, modeling_wavlm.WavLMEncoderStableLayerNorm)
    if attention_mask is not None:
        frames_BTD = frames_BTD.masked_fill(~attention_mask[..., None], 0.0)
    hidden_BTD = frames_BTD + encoder.pos_conv_embed(frames_BTD)
    hidden_BTD = encoder.dropout(hidden_BTD if norm_is_last else encoder.layer_norm(hidden_BTD))
    if encoder.layers:
        bias_BHTT = position_bias(encoder.layers[0].attention, hidden_BTD)
        unheard_B11T = None if attention_mask is None else _unheard(attention_mask, bias_BHTT.dtype)
    for block in encoder.layers:
        hidden_BTD, _ = block(hidden_BTD, unheard_B11T, bias_BHTT)
    return BaseModelOutput(encoder.layer_norm(hidden_BTD) if norm_is_last else hidden_BTD)


def position_bias(attention: Any, hidden_BTD: Tensor) -> Tensor:
    """The relative position bias of all blocks, before their gates: H x T x T for each row, or once.

    A CPU adds up the gradients of blocks before those of rows; a GPU the other way round, which takes
    B times less memory.
    """
    B, T, _ = hidden_BTD.shape
    bias_HTT: Tensor = attention.compute_bias(T, T)
    return bias_HTT.expand(B if bias_HTT.device.type == "cpu" else 1, -1, -1, -1)


def _unheard(valid_BT: Tensor, dtype: torch.dtype) -> Tensor:
    """B x 1 x 1 x T: what is added to the logits of a frame, -inf where there is none."""
    zeros_BT = torch.zeros_like(valid_BT, dtype=dtype)
    return zeros_BT.masked_fill_(~valid_BT, -torch.inf)[:, None, None]


def attend(
    attention: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None,
    position_bias: Tensor,
    **_settings: Any,
) -> tuple[Tensor, None, Tensor]:
    """Self-attention with a gated bias added to its logits.

    Args:
        attention: the layers and settings, a WavLMAttention.
        hidden_states: its input, B x T x D.
        attention_mask: B x 1 x 1 x T, 0 where a frame may be attended to, else -inf; `None` for all.
        position_bias: as the function of this name makes it.

    Returns:
        The output (B x T x D), no weights, and the bias as it came.
    """
    B, T, _ = hidden_states.shape
    gate_BHT1 = _gate(attention, hidden_states)
    queries, keys, values = (
        projection(hidden_states).view(B, T, attention.num_heads, -1).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    # Under autocast they are float32: narrowed while they are small.
    gate_BHT1, bias_BHTT = gate_BHT1.to(queries.dtype), position_bias.to(queries.dtype)
    if attention_mask is None:
        logits_BHTT = gate_BHT1 * bias_BHTT
    else:
        logits_BHTT = torch.addcmul(attention_mask.to(queries.dtype), gate_BHT1, bias_BHTT)
    attended_BHTD = functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=logits_BHTT,
        dropout_p=attention.dropout if attention.training else 0.0,
    )
    attended_BTD = attention.out_proj(attended_BHTD.transpose(1, 2).flatten(2))
    return attended_BTD, None, position_bias


def _gate(attention: Any, hidden_BTD: Tensor) -> Tensor:
    """How much of the position bias each frame and head (B x H x T x 1) takes: arXiv 2110.13900, 3.1."""
    per_head_BHTD = hidden_BTD.unflatten(2, (attention.num_heads, -1)).transpose(1, 2)
    projected_BHT2 = attention.gru_rel_pos_linear(per_head_BHTD).unflatten(-1, (2, 4)).sum(-1)
    update_BHT1, reset_BHT1 = torch.sigmoid(projected_BHT2).chunk(2, dim=-1)
    gate_BHT1: Tensor = update_BHT1 * (reset_BHT1 * attention.gru_rel_pos_const - 1.0) + 2.0
    return gate_BHT1
