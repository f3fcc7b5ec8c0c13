"""Hidden states of a WavLM, HuBERT or wav2vec 2.0 model that do not depend on the batch."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoModel
from transformers.utils import logging as transformers_logging

from pipeline.audio.frame_grid import SSL_GRID, FrameGrid
from pipeline.features.cpu_layers import keep_narrow_groups_in_float32, replace_linears
from pipeline.features.wavlm_attention import replace_attention

FAMILIES = ("wavlm", "hubert", "wav2vec2")
UNCUT_LAYERS = "uncut_num_hidden_layers"
VARIANCE_FLOOR = 1e-7  # the feature extractors of these models add it


class HiddenStates(NamedTuple):
    """Hidden states of the requested layers, in that order; frames after `num_frames_B` are zero."""

    hidden_LBTD: Tensor
    num_frames_B: Tensor


class SslModel(nn.Module):
    """A self-supervised speech model that returns hidden states by layer.

    Layer 0 is the input of the first transformer block, layer l the output of block l. The last
    layer of a model with stable layer norm is taken after the final layer norm, as in
    transformers; a layer that `max_layer` made the last one is not.

    Attributes:
        grid: which samples each frame sees.
        hidden_size: D.
        num_layers: the highest layer that `forward` can return.
    """

    def __init__(self, backbone: Any, feature_extractor: Any, max_layer: int | None = None) -> None:
        """Wrap `backbone`, which is cut and reconfigured in place.

        Args:
            backbone: a transformers base model of one of FAMILIES.
            feature_extractor: its transformers feature extractor.
            max_layer: layers above it are dropped; `None` keeps all.

        Raises:
            ValueError: the model cannot be used, or has fewer layers than `max_layer`.
        """
        super().__init__()
        settings = backbone.config
        _check(settings, feature_extractor)
        replace_attention(backbone)
        replace_linears(backbone)
        keep_narrow_groups_in_float32(backbone)
        self.backbone = backbone
        self.feature_extractor = feature_extractor
        self.hidden_size = int(settings.hidden_size)
        self.grid = FrameGrid.of_convolutions(
            tuple(settings.conv_kernel),
            tuple(settings.conv_stride),
            feature_extractor.sampling_rate,
        )
        # Otherwise the model would drop layers and mask frames at random in training.
        settings.layerdrop = 0.0
        settings.apply_spec_augment = False
        self._front_end_frozen = False
        self._cut(max_layer)
        # A parameter that no output depends on would block data-parallel training.
        for name in ("masked_spec_embed", "adapter"):
            unused = getattr(backbone, name, None)
            if unused is not None:
                unused.requires_grad_(requires_grad=False)

    @classmethod
    def from_pretrained(
        cls, model: str | Path, revision: str | None = None, max_layer: int | None = None
    ) -> "SslModel":
        """Load a transformers checkpoint by hub name or folder, in float32 and evaluation mode."""
        with _no_progress_bars():
            backbone = AutoModel.from_pretrained(model, revision=revision, dtype=torch.float32)
        feature_extractor = AutoFeatureExtractor.from_pretrained(model, revision=revision)
        return cls(backbone, feature_extractor, max_layer).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a transformers folder, which `from_pretrained` reads back to the same layers."""
        with _no_progress_bars():
            self.backbone.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)

    def freeze_front_end(self) -> None:
        """Freeze the convolutions: they get no gradient from now on."""
        self._front_end_frozen = True
        self.backbone.feature_extractor.requires_grad_(requires_grad=False)

    def checkpoint_gradients(self) -> None:
        """From now on recompute each block in the backward pass instead of storing its activations.

        Gradients stay the same, dropout included; evaluation is not affected.
        """
        with warnings.catch_warnings():
            # Newer versions of transformers have another name for it, older ones only this name.
            warnings.simplefilter("ignore", FutureWarning)
            self.backbone.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(
        self,
        waveforms_BS: Tensor,
        num_samples_B: Tensor,
        layers: Sequence[int],
        masked_BT: Tensor | None = None,
    ) -> HiddenStates:
        """Hidden states of a padded batch.

        Args:
            waveforms_BS: float32 at the model's sample rate, padding at the end.
            num_samples_B: valid samples of each row.
            layers: which layers, each in 0..num_layers.
            masked_BT: frames that the model's mask embedding replaces (for masked prediction).

        Raises:
            ValueError: the model lacks a layer, or an utterance is shorter than one frame.
        """
        self._check_request(num_samples_B, layers)
        front_BTC, num_frames_B = self._front_end(waveforms_BS, num_samples_B)
        # HuBERT returns the projection alone, the other models also its normalised input.
        projected = self.backbone.feature_projection(front_BTC)
        frames_BTD = projected[0] if isinstance(projected, tuple) else projected
        if masked_BT is not None:
            mask_D = self.backbone.masked_spec_embed.to(frames_BTD.dtype)
            frames_BTD = torch.where(masked_BT[..., None], mask_D, frames_BTD)
        valid_BT = _valid(num_frames_B, frames_BTD.shape[1])
        padded = _may_be_padded(valid_BT)
        outputs = self._encode(frames_BTD, valid_BT if padded else None)
        hidden_LBTD = torch.stack([outputs[layer] for layer in layers])
        if padded:
            hidden_LBTD.masked_fill_(~valid_BT[..., None], 0.0)
        return HiddenStates(hidden_LBTD, num_frames_B)

    def _front_end(self, waveforms_BS: Tensor, num_samples_B: Tensor) -> tuple[Tensor, Tensor]:
        """The convolutions; group norm is over each row's valid frames only."""
        if self.feature_extractor.do_normalize:
            waveforms_BS = normalise(waveforms_BS, num_samples_B)
        hidden_BCT, lengths_B = waveforms_BS[:, None], num_samples_B
        trains = torch.is_grad_enabled() and not self._front_end_frozen
        with torch.set_grad_enabled(trains):
            for layer in self.backbone.feature_extractor.conv_layers:
                (kernel,), (stride,) = layer.conv.kernel_size, layer.conv.stride
                lengths_B = torch.div(lengths_B - kernel, stride, rounding_mode="floor") + 1
                norm = getattr(layer, "layer_norm", None)
                if isinstance(norm, nn.GroupNorm):
                    hidden_BCT = masked_channel_norm(layer.conv(hidden_BCT), lengths_B, norm)
                    hidden_BCT = layer.activation(hidden_BCT)
                else:
                    hidden_BCT = layer(hidden_BCT)
        expected = self.grid.num_frames(waveforms_BS.shape[1])
        if hidden_BCT.shape[2] != expected:
            raise AssertionError(f"{hidden_BCT.shape[2]} frames came out, the grid says {expected}")
        return hidden_BCT.transpose(1, 2), lengths_B

    def _encode(self, frames_BTD: Tensor, valid_BT: Tensor | None) -> list[Tensor]:
        """All layers from 0 on; the encoder zeroes the padding before its positional convolution."""
        encoder = self.backbone.encoder
        with _recorded([encoder.dropout, *encoder.layers]) as outputs:
            encoded = encoder(frames_BTD, attention_mask=valid_BT)
        if not self._is_cut:
            outputs[-1] = encoded.last_hidden_state
        return outputs

    def _cut(self, max_layer: int | None) -> None:
        settings, encoder = self.backbone.config, self.backbone.encoder
        present = len(encoder.layers)
        self.num_layers = present if max_layer is None else max_layer
        if not 0 <= self.num_layers <= present:
            raise ValueError(
                f"layer {max_layer} was requested, but the SSL model has layers 0 to {present}"
            )
        uncut = getattr(settings, UNCUT_LAYERS, present)
        self._is_cut = self.num_layers < uncut
        if self._is_cut:
            # The saved config keeps the count, so that a cut model that is loaded again does not
            # apply the final layer norm to its last layer.
            setattr(settings, UNCUT_LAYERS, uncut)
            settings.num_hidden_layers = self.num_layers
            encoder.layers = encoder.layers[: self.num_layers]
            if settings.do_stable_layer_norm:
                encoder.layer_norm.requires_grad_(requires_grad=False)

    def _check_request(self, num_samples_B: Tensor, layers: Sequence[int]) -> None:
        missing = [layer for layer in layers if not 0 <= layer <= self.num_layers]
        if missing or not layers:
            raise ValueError(f"layers {list(layers)}: the SSL model has 0 to {self.num_layers}")
        shortest = int(num_samples_B.min())
        if self.grid.num_frames(shortest) < 1:
            raise ValueError(
                f"an utterance of {shortest} samples is shorter than one frame "
                f"({self.grid.receptive_field} samples): raise corpus.min_seconds"
            )


def pad_waveforms(waveforms: Sequence[np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
    """Stack 1-D waveforms, zeros at the end: (waveforms_BS float32, num_samples_B int64)."""
    rows = [torch.as_tensor(waveform, dtype=torch.float32) for waveform in waveforms]
    num_samples_B = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), num_samples_B


def normalise(waveforms_BS: Tensor, num_samples_B: Tensor) -> Tensor:
    """Zero mean and unit variance over each row's valid samples; the padding becomes zero."""
    valid_BS = _valid(num_samples_B, waveforms_BS.shape[1])
    count_B1 = num_samples_B[:, None]
    mean_B1 = (waveforms_BS * valid_BS).sum(1, keepdim=True) / count_B1
    centred_BS = (waveforms_BS - mean_B1) * valid_BS
    variance_B1 = centred_BS.square().sum(1, keepdim=True) / count_B1
    return centred_BS * torch.rsqrt(variance_B1 + VARIANCE_FLOOR)


def masked_channel_norm(hidden_BCT: Tensor, lengths_B: Tensor, norm: nn.GroupNorm) -> Tensor:
    """`norm` over each row's valid frames alone; the padding becomes zero."""
    size, lengths = hidden_BCT.shape[2], lengths_B.tolist()
    if min(lengths) == size:
        normed_BCT: Tensor = norm(hidden_BCT)
        return normed_BCT
    normed_BCT = torch.zeros_like(hidden_BCT)
    for row, length in enumerate(lengths):
        normed_BCT[row : row + 1, :, :length] = norm(hidden_BCT[row : row + 1, :, :length])
    return normed_BCT


def _valid(lengths_B: Tensor, size: int) -> Tensor:
    return torch.arange(size, device=lengths_B.device) < lengths_B[:, None]


def _may_be_padded(valid_BT: Tensor) -> bool:
    """Looking costs nothing on a CPU; on a GPU it would wait for all pending work."""
    return valid_BT.device.type != "cpu" or not bool(valid_BT.all())


@contextmanager
def _recorded(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """The outputs of `modules`, in the order in which they run inside the block."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        # WavLM's blocks return (frames, position bias), the others the frames alone.
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handles = [module.register_forward_hook(keep) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Hide transformers' bars: each of many workers would print one."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _check(settings: Any, feature_extractor: Any) -> None:
    if settings.model_type not in FAMILIES:
        raise ValueError(
            f"ssl.model is a '{settings.model_type}' model; name one of {', '.join(FAMILIES)}"
        )
    if getattr(settings, "conv_pos_batch_norm", False):
        raise ValueError(
            "ssl.model has a batch norm in its positional convolution, which mixes padding into "
            "the features: name a model with conv_pos_batch_norm false"
        )
    if feature_extractor.sampling_rate != SSL_GRID.sample_rate_hz:
        raise ValueError(
            f"ssl.model needs audio at {feature_extractor.sampling_rate} Hz, the corpus is read "
            f"at {SSL_GRID.sample_rate_hz} Hz: name a model trained on 16 kHz speech"
        )
