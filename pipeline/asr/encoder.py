"""From embedded frames to encoded frames: subsampling, then torchaudio's Conformer layers.

An utterance's output depends on its own frames alone, in training and in evaluation. Two parts of
torchaudio's layer would violate that: its depthwise convolution reads the frames after the end,
which are not zero, and its BatchNorm (or one-group GroupNorm) averages over them. Here the frames
after the end are set to zero before the convolution, and each frame is normalised by itself.
"""

import math

import torch
from torch import Tensor, nn
from torchaudio.models.conformer import ConformerLayer

from pipeline.asr.subsampling import halved
from pipeline.config import Asr


def padding_mask(num_frames_B: Tensor, num_columns: int) -> Tensor:
    """B x num_columns, true after each utterance's end."""
    columns = torch.arange(num_columns, device=num_frames_B.device)
    return columns >= num_frames_B[:, None]


def sinusoids(num_positions: int, dim: int, device: torch.device, first: int = 0) -> Tensor:
    """Sinusoidal positions (Vaswani et al., 2017, section 3.5).

    Positions `first` … `first + num_positions - 1` as num_positions x dim float32.

    Even columns hold sin(t / 10000^(column / dim)), odd ones the cosine of their left neighbour.
    """
    times_T = torch.arange(first, first + num_positions, device=device, dtype=torch.float32)
    columns = torch.arange(0, dim, 2, device=device, dtype=torch.float32)
    angles = times_T[:, None] * torch.exp(columns * (-math.log(10000.0) / dim))
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :dim]


class Encoder(nn.Module):
    """B x T x E embedded frames to B x T' x D encoded ones, T' = ceil(T / subsampling)."""

    def __init__(self, settings: Asr) -> None:
        super().__init__()
        halvings = {1: 0, 2: 1, 4: 2}[settings.subsampling]
        width = settings.embedding_dim
        # Embedded frames start small: unscaled, the biases that follow would dominate them.
        self.input_norm = nn.LayerNorm(width)
        self.halve = nn.ModuleList(
            nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1) for _ in range(halvings)
        )
        self.project = nn.Linear(width, settings.dim)
        # So that the frames weigh as much as the positions added to them.
        self.norm = nn.LayerNorm(settings.dim)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(_Layer(settings) for _ in range(settings.encoder_layers))

    def forward(self, embedded_BTE: Tensor, num_frames_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded B x T' x D (zero after each end) and the lengths B.

        Frames after an utterance's end may have any finite value.
        """
        lengths_B = num_frames_B.to(embedded_BTE.device)
        x_BTE = _blank(self.input_norm(embedded_BTE), lengths_B)
        for convolution in self.halve:
            x_BTE = nn.functional.silu(convolution(x_BTE.transpose(1, 2))).transpose(1, 2)
            lengths_B = halved(lengths_B)
            x_BTE = _blank(x_BTE, lengths_B)
        x_BTD = self.norm(self.project(x_BTE))
        num_columns = x_BTD.shape[1]
        x_BTD = self.dropout(x_BTD + sinusoids(num_columns, x_BTD.shape[2], x_BTD.device))
        padding_BT = padding_mask(lengths_B, num_columns)
        x_TBD = x_BTD.transpose(0, 1)
        for layer in self.layers:
            x_TBD = layer(x_TBD, padding_BT)
        return _blank(x_TBD.transpose(0, 1), lengths_B), lengths_B


def _blank(frames_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    padding_BT = padding_mask(lengths_B, frames_BTD.shape[1])
    return frames_BTD.masked_fill(padding_BT[..., None], 0.0)


class _Layer(ConformerLayer):  # type: ignore[misc] # torchaudio ships no types
    """torchaudio's layer, blind to the frames after an utterance's end (Gulati et al., 2020)."""

    def __init__(self, settings: Asr) -> None:
        super().__init__(
            input_dim=settings.dim,
            ffn_dim=settings.feedforward_dim,
            num_attention_heads=settings.heads,
            depthwise_conv_kernel_size=settings.conv_kernel,
            dropout=settings.dropout,
        )
        expand, gate, depthwise, _, activation, contract, dropout = self.conv_module.sequential
        self.conv_module.sequential = nn.Sequential(
            expand, gate, depthwise, _FrameNorm(settings.dim), activation, contract, dropout
        )

    def forward(self, x_TBD: Tensor, padding_BT: Tensor) -> Tensor:
        x_TBD = x_TBD + 0.5 * self.ffn1(x_TBD)
        x_TBD = x_TBD + self._attend(self.self_attn_layer_norm(x_TBD), padding_BT)
        x_TBD = x_TBD + self._convolve(x_TBD, padding_BT)
        x_TBD = x_TBD + 0.5 * self.ffn2(x_TBD)
        normed_TBD: Tensor = self.final_layer_norm(x_TBD)
        return normed_TBD

    def _attend(self, x_TBD: Tensor, padding_BT: Tensor) -> Tensor:
        attended_TBD, _ = self.self_attn(
            x_TBD, x_TBD, x_TBD, key_padding_mask=padding_BT, need_weights=False
        )
        dropped_TBD: Tensor = self.self_attn_dropout(attended_TBD)
        return dropped_TBD

    def _convolve(self, x_TBD: Tensor, padding_BT: Tensor) -> Tensor:
        steps = self.conv_module.sequential
        x_BDT = self.conv_module.layer_norm(x_TBD).permute(1, 2, 0)
        gated_BDT = steps[:2](x_BDT).masked_fill(padding_BT[:, None], 0.0)
        convolved_BDT: Tensor = steps[2:](gated_BDT)
        return convolved_BDT.permute(2, 0, 1)


class _FrameNorm(nn.LayerNorm):
    """Layer norm over the channels of each frame of B x D x T."""

    def forward(self, x_BDT: Tensor) -> Tensor:
        return super().forward(x_BDT.transpose(1, 2)).transpose(1, 2)
