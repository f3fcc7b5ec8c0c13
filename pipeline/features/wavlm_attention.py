"""WavLM's attention without the attention weights that transformers computes too.

transformers asks torch for the mean of the attention weights over all heads, which nothing here
reads, and therefore stores all T x T weights of every head. It also passes the projections' weights
to torch instead of calling the layers, which bypasses faster ones.
"""

from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.wavlm.modeling_wavlm import WavLMAttention


def replace_attention(module: nn.Module) -> None:
    """Let every WavLM attention inside `module` compute its output with `attend`."""
    for attention in module.modules():
        if isinstance(attention, WavLMAttention):
            method = MethodType(attend, attention)
            attention.torch_multi_head_self_attention = method  # type: ignore[method-assign] # replaced


def attend(
    attention: Any, hidden_BTD: Tensor, valid_BT: Tensor | None, bias: Tensor
) -> tuple[Tensor, None]:
    """Self-attention with a bias added to its logits.

    Args:
        attention: the layers and settings, a WavLMAttention.
        hidden_BTD: its input.
        valid_BT: which frames may be attended to; `None` for all.
        bias: the gated relative position bias, (B * H) x T x T.

    Returns:
        The output (B x T x D), and no weights.
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
