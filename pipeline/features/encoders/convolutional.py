"""WavLM, HuBERT and wav2vec 2.0: convolutions over samples, then a transformer."""

from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from pipeline.audio.model_grid import grid_of_model
from pipeline.features.cpu_layers import keep_narrow_groups_in_float32, replace_linears
from pipeline.features.row_memory import RowMemory
from pipeline.features.ssl import (
    HiddenStates,
    TransformersEncoder,
    cut,
    padding_mask,
    recorded,
    stack_layers,
    valid,
)
from pipeline.features.wavlm_attention import replace_attention

VARIANCE_FLOOR = 1e-7  # the feature extractors of these models add it


class ConvolutionalEncoder(TransformersEncoder):
    """A model whose front end is a stack of convolutions without padding."""

    def __init__(self, backbone: Any, feature_extractor: Any, max_layer: int | None = None) -> None:
        """Wrap `backbone`, which is cut and reconfigured in place.

        Args:
            backbone: a transformers base model of WavLM, HuBERT or wav2vec 2.0.
            feature_extractor: its transformers feature extractor.
            max_layer: layers above it are dropped; `None` keeps all.

        Raises:
            ValueError: the model cannot be used, or has fewer layers than `max_layer`.
        """
        settings = backbone.config
        if getattr(settings, "conv_pos_batch_norm", False):
            raise ValueError(
                "ssl.model has a batch norm in its positional convolution, which mixes padding into "
                "the features: name a model with conv_pos_batch_norm false"
            )
        super().__init__(backbone, feature_extractor, grid_of_model(settings.to_dict()))
        backbone.feature_extractor.forward = MethodType(convolve, backbone.feature_extractor)
        backbone.encoder.forward = MethodType(encode, backbone.encoder)
        replace_attention(backbone)
        replace_linears(backbone)
        keep_narrow_groups_in_float32(backbone)
        # Otherwise the model would drop layers and mask frames at random in training.
        settings.layerdrop = 0.0
        settings.apply_spec_augment = False
        self._front_end_frozen = False
        self._remembered: RowMemory | None = None
        # Otherwise it is the first thing of the encoder, as in data2vec-audio always.
        self._norm_is_last = getattr(settings, "do_stable_layer_norm", False)
        self._is_cut = cut(backbone, "num_hidden_layers", max_layer)
        self._freeze_unused()

    def forward(
        self,
        waveforms_BS: Tensor,
        num_samples_B: Tensor,
        layers: Sequence[int],
        masked_BT: Tensor | None = None,
    ) -> HiddenStates:
        """See `SslModel`; the model's mask embedding replaces frames `masked_BT`."""
        self.check_request(num_samples_B, layers)
        if self._remembered is None:
            front_BTC, num_frames_B = self._front_end(waveforms_BS, num_samples_B)
        else:
            front_BTC, num_frames_B = self._by_row(self._remembered, waveforms_BS, num_samples_B)
        # HuBERT returns the projection alone, the other models also its normalised input.
        projected = self.backbone.feature_projection(front_BTC)
        frames_BTD = projected[0] if isinstance(projected, tuple) else projected
        if masked_BT is not None:
            mask_D = self.backbone.masked_spec_embed.to(frames_BTD.dtype)
            frames_BTD = torch.where(masked_BT[..., None], mask_D, frames_BTD)
        valid_BT = padding_mask(num_frames_B, frames_BTD.shape[1])
        outputs = self._encode(frames_BTD, valid_BT, layers)
        return HiddenStates(stack_layers(outputs, layers, valid_BT), num_frames_B)

    @property
    def final_norm(self) -> nn.Module | None:
        encoder = self.backbone.encoder
        return encoder.layer_norm if self._norm_is_last and not self._is_cut else None

    def freeze_front_end(self) -> None:
        """Freeze the convolutions: they get no gradient from now on."""
        self._front_end_frozen = True
        self.backbone.feature_extractor.requires_grad_(requires_grad=False)

    def parts_by_length(self) -> tuple[nn.Module, ...]:
        backbone = self.backbone
        front_end = (backbone.feature_extractor, backbone.feature_projection)
        return (*front_end, *self._position_layers(), *self.blocks())

    def remember_front_end(self, max_bytes: int) -> None:
        self._remembered = RowMemory(self._front_end_of, max_bytes)

    def _by_row(
        self, front_end_of: RowMemory, waveforms_BS: Tensor, num_samples_B: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As `_front_end`, but each row by itself, with zeros behind its frames."""
        rows = zip(waveforms_BS, num_samples_B.tolist(), strict=True)
        fronts = [front_end_of(row_S[:length]) for row_S, length in rows]
        num_frames = self.grid.num_frames(waveforms_BS.shape[1])
        front_BTC = fronts[0].new_zeros((len(fronts), num_frames, fronts[0].shape[1]))
        for row_TC, front_TC in zip(front_BTC, fronts, strict=True):
            row_TC[: len(front_TC)] = front_TC
        lengths = [len(front_TC) for front_TC in fronts]
        return front_BTC, torch.tensor(lengths, device=waveforms_BS.device)

    def _front_end_of(self, row_S: Tensor) -> Tensor:
        """T x C of one utterance; uncompiled, because every length would be compiled by itself."""
        num_samples_B = torch.tensor([len(row_S)], device=row_S.device)
        with torch.compiler.set_stance("force_eager"):
            return self._front_end(row_S[None], num_samples_B)[0][0]

    def _front_end(self, waveforms_BS: Tensor, num_samples_B: Tensor) -> tuple[Tensor, Tensor]:
        """What the convolutions make, B x T x C, and the frames of each row."""
        num_samples_B = num_samples_B.to(waveforms_BS.device, non_blocking=True)
        if self.feature_extractor.do_normalize:
            waveforms_BS = normalise(waveforms_BS, num_samples_B)
        trains = torch.is_grad_enabled() and not self._front_end_frozen
        with torch.set_grad_enabled(trains):
            hidden_BCT, lengths_B = self.backbone.feature_extractor(waveforms_BS, num_samples_B)
        expected = self.grid.num_frames(waveforms_BS.shape[1])
        if hidden_BCT.shape[2] != expected:
            raise AssertionError(f"{hidden_BCT.shape[2]} frames came out, the grid says {expected}")
        return hidden_BCT.transpose(1, 2), lengths_B

    def _encode(
        self, frames_BTD: Tensor, valid_BT: Tensor | None, layers: Sequence[int]
    ) -> Mapping[int, Tensor]:
        """The layers; the encoder zeroes the padding before its positional convolution."""
        encoder = self.backbone.encoder
        with recorded([encoder.dropout, *encoder.layers], layers) as outputs:
            encoded = encoder(frames_BTD, attention_mask=valid_BT)
        if not self._is_cut:
            outputs[self.num_layers] = encoded.last_hidden_state
        return outputs

    def _position_layers(self) -> tuple[nn.Module, ...]:
        return (self.backbone.encoder.pos_conv_embed,)

    def _freeze_unused(self) -> None:
        """A parameter that no output depends on would block data-parallel training."""
        unused = [getattr(self.backbone, name, None) for name in ("masked_spec_embed", "adapter")]
        if self._is_cut and self._norm_is_last:
            unused.append(self.backbone.encoder.layer_norm)
        for part in unused:
            if part is not None:
                part.requires_grad_(requires_grad=False)


def convolve(
    feature_extractor: Any, waveforms_BS: Tensor, lengths_B: Tensor
) -> tuple[Tensor, Tensor]:
    """What a transformers feature encoder makes of samples, B x C x T, and the frames of each row.

    A group norm, which the first layer of some models has, is over each row's valid frames only.
    """
    hidden_BCT = waveforms_BS[:, None].to(feature_extractor.conv_layers[0].conv.weight.dtype)
    for layer in feature_extractor.conv_layers:
        (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
        lengths_B = torch.div(lengths_B - kernel, stride, rounding_mode="floor") + 1
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.GroupNorm):
            hidden_BCT = masked_channel_norm(layer.conv(hidden_BCT), lengths_B, norm)
            hidden_BCT = layer.activation(hidden_BCT)
        else:
            hidden_BCT = layer(hidden_BCT)
    return hidden_BCT, lengths_B


def encode(
    encoder: Any, frames_BTD: Tensor, attention_mask: Tensor | None = None
) -> BaseModelOutput:
    """The last layer of a transformers encoder of HuBERT or wav2vec 2.0.

    transformers' own looks whether there is padding, which waits for all that a GPU has to do.

    Args:
        encoder: the layers, in either of the two orders that norms come in.
        frames_BTD: the projected frames.
        attention_mask: B x T, true where a row has a frame; `None` if all have.
    """
    norm_is_last = getattr(encoder.config, "do_stable_layer_norm", False)
    mask_B11T = None
    if attention_mask is not None:
        frames_BTD = frames_BTD.masked_fill(~attention_mask[..., None], 0.0)
        mask_B11T = attention_mask[:, None, None]
    hidden_BTD = frames_BTD + encoder.pos_conv_embed(frames_BTD)
    hidden_BTD = encoder.dropout(hidden_BTD if norm_is_last else encoder.layer_norm(hidden_BTD))
    for block in encoder.layers:
        hidden_BTD = block(hidden_BTD, attention_mask=mask_B11T)
    return BaseModelOutput(encoder.layer_norm(hidden_BTD) if norm_is_last else hidden_BTD)


def normalise(waveforms_BS: Tensor, num_samples_B: Tensor) -> Tensor:
    """Zero mean and unit variance over each row's valid samples; the padding becomes zero."""
    valid_BS = valid(num_samples_B, waveforms_BS.shape[1])
    count_B1 = num_samples_B[:, None]
    mean_B1 = (waveforms_BS * valid_BS).sum(1, keepdim=True) / count_B1
    centred_BS = (waveforms_BS - mean_B1) * valid_BS
    variance_B1 = centred_BS.square().sum(1, keepdim=True) / count_B1
    return centred_BS * torch.rsqrt(variance_B1 + VARIANCE_FLOOR)


def masked_channel_norm(hidden_BCT: Tensor, lengths_B: Tensor, norm: nn.GroupNorm) -> Tensor:
    """`norm`, whose groups are channels, over each row's valid frames; the padding becomes zero.

    A CPU goes row by row, which takes less memory. A GPU would wait there for the lengths, and a
    compiler could not go on.
    """
    if hidden_BCT.device.type == "cpu" and not torch.compiler.is_compiling():
        return _norm_by_row(hidden_BCT, lengths_B.tolist(), norm)
    valid_B1T = valid(lengths_B, hidden_BCT.shape[2])[:, None]
    wide_BCT, count_B11 = hidden_BCT.float(), lengths_B[:, None, None]
    mean_BC1 = (wide_BCT * valid_B1T).sum(2, keepdim=True) / count_B11
    centred_BCT = (wide_BCT - mean_BC1) * valid_B1T
    scale_BC1 = torch.rsqrt(centred_BCT.square().sum(2, keepdim=True) / count_B11 + norm.eps)
    normed_BCT = centred_BCT * (scale_BC1 * norm.weight[:, None]) + norm.bias[:, None]
    return (normed_BCT * valid_B1T).to(hidden_BCT.dtype)


def _norm_by_row(hidden_BCT: Tensor, lengths: list[int], norm: nn.GroupNorm) -> Tensor:
    if min(lengths) == hidden_BCT.shape[2]:
        normed_BCT: Tensor = norm(hidden_BCT)
        return normed_BCT
    normed_BCT = torch.zeros_like(hidden_BCT)
    for row, length in enumerate(lengths):
        normed_BCT[row : row + 1, :, :length] = norm(hidden_BCT[row : row + 1, :, :length])
    return normed_BCT
