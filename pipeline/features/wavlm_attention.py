"""WavLM's attention without what transformers computes beside it.

It asks torch for the mean over all heads of the attention weights, which nobody reads here, and so
keeps all T x T weights of every head; and it hands torch the projections' weights in place of the
layers, which may know a better way.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


def replace_attention(module: nn.Module) -> None:
    """Let every WavLM attention inside `module` compute the same by `attend`."""
    for attention in module.modules():
        if isinstance(attention, WavLMAttention):
            method = MethodType(attend, attention)
            attention.torch_multi_head_self_attention = method  # type: ignore[method-assign]


def attend(
    attention: Any, hidden_BTD: Tensor, valid_BT: Tensor | None, bias: Tensor
) -> tuple[Tensor, None]:
    """Self-attention with a bias to its logits.

    Args:
        attention: the layers and settings, a WavLMAttention.
        hidden_BTD: its input.
        valid_BT: which frames may be attended to; None for all.
        bias: the gated relative position bias, (B * H) x T x T.

    Returns:
        the output (B x T x D), and no weights.
    """
    B, T, _ = hidden_BTD.shape
    queries, keys, values = (
        projection(hidden_BTD).view(B, T, attention.num_heads, -1).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    bias_BHTT = bias.view(B, attention.num_heads, T, T)
    if valid_BT is not None:
        bias_BHTT = bias_BHTT.masked_fill(~valid_BT[:, None, None].bool(), -torch.inf)
    attended_BHTD = functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        attn_mask=bias_BHTT,
        dropout_p=attention.dropout if attention.training else 0.0,
    )
    return attention.out_proj(attended_BHTD.transpose(1, 2).flatten(2)), None
