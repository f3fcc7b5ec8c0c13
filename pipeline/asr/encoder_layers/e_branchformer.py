"""The E-Branchformer's layer (Kim et al., 2022), blind to the frames after an utterance's end.

Two branches read the same frames: self-attention the whole utterance, a gated MLP what is near. Both
are joined by a depthwise convolution. Frames after the end are zero before each convolution.
"""

import torch
from torch import Tensor, nn

from pipeline.asr.encoder_layers.relative_attention import RelativeAttention
from pipeline.config import Asr


class EBranchformerLayer(nn.Module):
    """Feed-forward, attention beside a convolutional gating MLP, merge, feed-forward."""

    def __init__(self, settings: Asr) -> None:
        super().__init__()
        width, own = settings.dim, settings.e_branchformer
        self.feedforward_before = _feedforward(settings)
        self.attention_norm = nn.LayerNorm(width)
        self.attention = _attention(settings)
        self.gating_norm = nn.LayerNorm(width)
        self.gating = _GatingMlp(settings)
        self.merge_convolution = _depthwise(2 * width, own.merge_kernel)
        self.merge_project = nn.Linear(2 * width, width)
        self.feedforward_after = _feedforward(settings)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, x_BTD: Tensor, padding_BT: Tensor) -> Tensor:
        """`padding_BT` is true after an utterance's end, where the result is of no use."""
        x_BTD = x_BTD + 0.5 * self.feedforward_before(x_BTD)
        x_BTD = x_BTD + self._branches(x_BTD, padding_BT)
        x_BTD = x_BTD + 0.5 * self.feedforward_after(x_BTD)
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def _branches(self, x_BTD: Tensor, padding_BT: Tensor) -> Tensor:
        attended_BTD = self.attention(self.attention_norm(x_BTD), padding_BT)
        gated_BTD = self.gating(self.gating_norm(x_BTD), padding_BT)
        both_BTC = self.dropout(torch.cat([attended_BTD, gated_BTD], dim=-1))
        near_BTC = _convolved(self.merge_convolution, both_BTC, padding_BT)
        merged_BTD: Tensor = self.dropout(self.merge_project(both_BTC + near_BTC))
        return merged_BTD


class _ContentAttention(nn.MultiheadAttention):
    """Self-attention by content alone: positions, if any, were added to the frames."""

    def forward(self, x_BTD: Tensor, padding_BT: Tensor) -> Tensor:  # type: ignore[override]
        attended_BTD, _ = super().forward(
            x_BTD, x_BTD, x_BTD, key_padding_mask=padding_BT, need_weights=False
        )
        return attended_BTD


def _attention(settings: Asr) -> nn.Module:
    if settings.positions == "relative":
        return RelativeAttention(settings)
    return _ContentAttention(settings.dim, settings.heads, settings.dropout, batch_first=True)


class _GatingMlp(nn.Module):
    """cgMLP (Sakuma et al., 2022): one half of the channels is multiplied by the other, convolved."""

    def __init__(self, settings: Asr) -> None:
        super().__init__()
        half = settings.e_branchformer.cgmlp_dim // 2
        self.expand = nn.Linear(settings.dim, 2 * half)
        self.gate_norm = nn.LayerNorm(half)
        self.convolution = _depthwise(half, settings.conv_kernel)
        # The gate starts at about one (Liu et al., 2021): each half passes as it is.
        nn.init.normal_(self.convolution.weight, std=1e-6)
        self.convolution.bias = nn.Parameter(torch.ones(half))
        self.dropout = nn.Dropout(settings.dropout)
        self.contract = nn.Linear(half, settings.dim)

    def forward(self, x_BTD: Tensor, padding_BT: Tensor) -> Tensor:
        content_BTC, gate_BTC = nn.functional.gelu(self.expand(x_BTD)).chunk(2, dim=-1)
        gate_BTC = _convolved(self.convolution, self.gate_norm(gate_BTC), padding_BT)
        contracted_BTD: Tensor = self.contract(self.dropout(content_BTC * gate_BTC))
        return contracted_BTD


def _feedforward(settings: Asr) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(settings.dim),
        nn.Linear(settings.dim, settings.feedforward_dim),
        nn.SiLU(),
        nn.Dropout(settings.dropout),
        nn.Linear(settings.feedforward_dim, settings.dim),
        nn.Dropout(settings.dropout),
    )


def _depthwise(channels: int, kernel: int) -> nn.Conv1d:
    return nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels)


def _convolved(convolution: nn.Conv1d, x_BTC: Tensor, padding_BT: Tensor) -> Tensor:
    blank_BTC = x_BTC.masked_fill(padding_BT[..., None], 0.0)
    convolved_BCT: Tensor = convolution(blank_BTC.transpose(1, 2))
    return convolved_BCT.transpose(1, 2)
