"""data2vec-audio: as wav2vec 2.0, but its positional embedding is a stack of convolutions."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.ssl import recorded


class Data2VecEncoder(ConvolutionalEncoder):
    """A data2vec-audio model.

    Each positional convolution makes something of the padding that the one before has left there,
    which the next would mix into the frames. Here the padding is zero before each of them.
    """

    def _encode(
        self, frames_BTD: Tensor, valid_BT: Tensor | None, layers: Sequence[int]
    ) -> Mapping[int, Tensor]:
        encoder = self.backbone.encoder
        frames_BTD = _heard(frames_BTD, valid_BT)
        positions_BTD = frames_BTD
        for layer in encoder.pos_conv_embed.layers:
            moved_BTD = layer(positions_BTD.transpose(1, 2)).transpose(1, 2)
            positions_BTD = _heard(moved_BTD, valid_BT)
        mask_B11T = None if valid_BT is None else valid_BT[:, None, None]
        with recorded([encoder.dropout, *encoder.layers], layers) as outputs:
            hidden_BTD = encoder.dropout(encoder.layer_norm(frames_BTD + positions_BTD))
            for block in encoder.layers:
                hidden_BTD = block(hidden_BTD, attention_mask=mask_B11T)
        return outputs

    def _position_layers(self) -> tuple[nn.Module, ...]:
        return tuple(self.backbone.encoder.pos_conv_embed.layers)


def _heard(frames_BTD: Tensor, valid_BT: Tensor | None) -> Tensor:
    return frames_BTD if valid_BT is None else frames_BTD.masked_fill(~valid_BT[..., None], 0.0)
