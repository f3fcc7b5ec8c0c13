"""torchaudio's Conformer layer, blind to the frames after an utterance's end.

Two parts of it would read them: its depthwise convolution, as they are not zero, and its BatchNorm
(or one-group GroupNorm), which averages over them. Here the frames after the end are set to zero
before the convolution, and each frame is normalised by itself.
"""

from torch import Tensor, nn
from torchaudio.models.conformer import ConformerLayer as TorchaudioLayer

from pipeline.asr.encoder_layers.relative_attention import RelativeAttention
from pipeline.config import Asr


class ConformerLayer(TorchaudioLayer):  # type: ignore[misc] # torchaudio ships no types
    """Feed-forward, self-attention, convolution, feed-forward (Gulati et al., 2020)."""

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
        self.is_relative = settings.positions == "relative"
        if self.is_relative:
            self.self_attn = RelativeAttention(settings)

    def forward(self, x_BTD: Tensor, padding_BT: Tensor) -> Tensor:
        """`padding_BT` is true after an utterance's end, where the result is of no use."""
        x_TBD = x_BTD.transpose(0, 1)
        x_TBD = x_TBD + 0.5 * self.ffn1(x_TBD)
        x_TBD = x_TBD + self._attend(self.self_attn_layer_norm(x_TBD), padding_BT)
        x_TBD = x_TBD + self._convolve(x_TBD, padding_BT)
        x_TBD = x_TBD + 0.5 * self.ffn2(x_TBD)
        normed_TBD: Tensor = self.final_layer_norm(x_TBD)
        return normed_TBD.transpose(0, 1)

    def _attend(self, x_TBD: Tensor, padding_BT: Tensor) -> Tensor:
        if self.is_relative:
            attended_TBD = self.self_attn(x_TBD.transpose(0, 1), padding_BT).transpose(0, 1)
        else:
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
