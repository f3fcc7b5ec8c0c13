"""From embedded frames to encoded frames: subsampling, then Conformer or E-Branchformer layers.

An utterance's output depends on its own frames alone, in training and in evaluation: no layer reads
frames after an utterance's end.
"""

import torch
from torch import Tensor, nn

from pipeline.asr.encoder_layers.conformer import ConformerLayer
from pipeline.asr.encoder_layers.e_branchformer import EBranchformerLayer
from pipeline.asr.positions import sinusoids
from pipeline.asr.subsampling import halved
from pipeline.config import Asr

LAYERS: dict[str, type[nn.Module]] = {
    "conformer": ConformerLayer,
    "e_branchformer": EBranchformerLayer,
}


def padding_mask(num_frames_B: Tensor, frames_BTD: Tensor) -> Tensor:
    """B x T on the frames' device, true after each utterance's end.

    The numbers may lie on the CPU, from where they are copied without waiting for a GPU.
    """
    columns_T = torch.arange(frames_BTD.shape[1], device=frames_BTD.device)
    return columns_T >= num_frames_B.to(frames_BTD.device, non_blocking=True)[:, None]


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
        self.adds_positions = settings.positions == "sinusoidal"
        layer = LAYERS[settings.encoder]
        self.layers = nn.ModuleList(layer(settings) for _ in range(settings.encoder_layers))

    def forward(self, embedded_BTE: Tensor, num_frames_B: Tensor) -> tuple[Tensor, Tensor]:
        """Encoded B x T' x D (zero after each end) and the lengths B, where `num_frames_B` is.

        Frames after an utterance's end may have any finite value.
        """
        lengths_B = num_frames_B
        x_BTE = _blank(self.input_norm(embedded_BTE), lengths_B)
        for convolution in self.halve:
            x_BTE = nn.functional.silu(convolution(x_BTE.transpose(1, 2))).transpose(1, 2)
            lengths_B = halved(lengths_B)
            x_BTE = _blank(x_BTE, lengths_B)
        x_BTD = self.norm(self.project(x_BTE))
        if self.adds_positions:
            x_BTD = x_BTD + sinusoids(x_BTD.shape[1], x_BTD.shape[2], x_BTD.device)
        x_BTD = self.dropout(x_BTD)
        padding_BT = padding_mask(lengths_B, x_BTD)
        for layer in self.layers:
            x_BTD = layer(x_BTD, padding_BT)
        return _blank(x_BTD, lengths_B), lengths_B


def _blank(frames_BTD: Tensor, lengths_B: Tensor) -> Tensor:
    return frames_BTD.masked_fill(padding_mask(lengths_B, frames_BTD)[..., None], 0.0)
