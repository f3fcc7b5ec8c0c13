"""What every SSL model offers, whatever its family: hidden states that do not depend on the batch."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from pipeline.audio.frame_grid import FrameGrid

UNCUT_LAYERS = "uncut_num_hidden_layers"


class HiddenStates(NamedTuple):
    """Hidden states of the requested layers, in that order; frames after `num_frames_B` are zero."""

    hidden_LBTD: Tensor
    num_frames_B: Tensor


class SslModel(nn.Module, ABC):
    """A pretrained speech encoder that returns hidden states by layer.

    Layer 0 is the input of the first transformer block, layer l the output of block l. Where the
    model ends with a layer norm, its last layer is taken after it, as in transformers; a layer that
    `max_layer` made the last one is not.

    Attributes:
        grid: which samples each frame stands for.
        hidden_size: D.
        num_layers: the highest layer that `forward` can return.
    """

    grid: FrameGrid
    hidden_size: int

    @abstractmethod
    def forward(
        self, waveforms_BS: Tensor, num_samples_B: Tensor, layers: Sequence[int]
    ) -> HiddenStates:
        """Hidden states of a padded batch.

        Args:
            waveforms_BS: float32 at the model's sample rate, padding at the end.
            num_samples_B: valid samples of each row; on a GPU best on the host, where looking at them
                waits for nothing.
            layers: which layers, each in 0..num_layers.

        Raises:
            ValueError: the model lacks a layer, or an utterance is shorter than one frame (which is
                not looked for on a GPU).
        """

    @abstractmethod
    def narrow(self, dtype: torch.dtype) -> None:
        """From now on compute in `dtype`, for inference; spectra and norms of samples stay float32."""

    @abstractmethod
    def blocks(self) -> tuple[nn.Module, ...]:
        """The transformer blocks, the lowest first: block l makes layer l + 1."""

    def parts_by_length(self) -> tuple[nn.Module, ...]:
        """The parts worth compiling, whose inputs have the shape of a batch: rows, then a length."""
        return self.blocks()

    @abstractmethod
    def freeze_front_end(self) -> None:
        """Freeze the convolutions that make frames: they get no gradient from now on."""

    def remember_front_end(self, max_bytes: int) -> None:
        """From now on keep up to `max_bytes` of what a frozen front end makes of utterances.

        It makes the same of an utterance in every batch then, and no more than rounding differs from
        what it makes otherwise. A model whose front end takes little time may ignore it.
        """

    @property
    def final_norm(self) -> nn.Module | None:
        """The norm after the last block, where there is one."""
        return None

    @property
    def num_layers(self) -> int:
        return len(self.blocks())

    def num_frames(self, num_samples_B: Tensor) -> Tensor:
        """The frames of rows of so many samples, at least one each."""
        beyond_B = num_samples_B - self.grid.num_samples(1)
        return torch.div(beyond_B, self.grid.hop, rounding_mode="floor") + 1

    def padded_samples(self, num_samples: int) -> int:
        """How many samples the model goes through for an utterance of so many, by itself."""
        return num_samples

    @abstractmethod
    def save_pretrained(self, folder: str | Path) -> None:
        """Write a transformers folder, which `load_encoder` reads back to the same layers."""

    @abstractmethod
    def checkpoint_gradients(self, num_blocks: int | None = None) -> None:
        """From now on recompute blocks in the backward pass instead of storing their activations.

        The lowest `num_blocks`, by default all. Gradients stay the same, dropout included; evaluation
        is not affected.
        """

    def check_request(self, num_samples_B: Tensor, layers: Sequence[int]) -> None:
        """Raise the errors of `forward`."""
        missing = [layer for layer in layers if not 0 <= layer <= self.num_layers]
        if missing or not layers:
            raise ValueError(f"layers {list(layers)}: the SSL model has 0 to {self.num_layers}")
        if num_samples_B.device.type != "cpu":
            return
        shortest = int(num_samples_B.min())
        if self.grid.num_frames(shortest) < 1:
            raise ValueError(
                f"an utterance of {shortest} samples is shorter than one frame "
                f"({self.grid.num_samples(1)} samples): raise corpus.min_seconds"
            )


class TransformersEncoder(SslModel):
    """An SSL model around one of transformers."""

    def __init__(self, backbone: Any, feature_extractor: Any, grid: FrameGrid) -> None:
        super().__init__()
        self.backbone = backbone
        self.feature_extractor = feature_extractor
        self.grid = grid
        self.hidden_size = int(backbone.config.hidden_size)

    def blocks(self) -> tuple[nn.Module, ...]:
        return tuple(self.backbone.encoder.layers)

    def narrow(self, dtype: torch.dtype) -> None:
        # Buffers stay: they hold positions.
        for parameter in self.backbone.parameters():
            parameter.data = parameter.data.to(dtype)

    @property
    def dtype(self) -> torch.dtype:
        """What the blocks compute in."""
        dtype: torch.dtype = self.backbone.dtype
        return dtype

    def save_pretrained(self, folder: str | Path) -> None:
        if self.dtype != torch.float32:
            raise ValueError(f"the SSL model computes in {self.dtype}: load it again to save it")
        with no_progress_bars():
            self.backbone.save_pretrained(folder)
        self.feature_extractor.save_pretrained(folder)

    def checkpoint_gradients(self, num_blocks: int | None = None) -> None:
        with warnings.catch_warnings():
            # Newer versions of transformers have another name for it, older ones only this name.
            warnings.simplefilter("ignore", FutureWarning)
            self.backbone.gradient_checkpointing_enable({"use_reentrant": False})
        for block in self.blocks()[num_blocks:] if num_blocks is not None else ():
            block.gradient_checkpointing = False  # type: ignore[assignment] # no tensor, nor a module


def cut(backbone: Any, count_key: str, max_layer: int | None) -> bool:
    """Drop the blocks of `backbone.encoder` above `max_layer`; return whether any are missing.

    Args:
        backbone: its config is changed too. It keeps the count before the cut, so that a cut model
            that is loaded again does not apply a final norm to its last layer.
        count_key: the setting that says how many blocks there are.
        max_layer: the highest layer that stays; `None` keeps all.

    Raises:
        ValueError: the model has fewer layers.
    """
    settings, encoder = backbone.config, backbone.encoder
    present = len(encoder.layers)
    kept = present if max_layer is None else max_layer
    if not 0 <= kept <= present:
        raise ValueError(
            f"layer {max_layer} was requested, but the SSL model has layers 0 to {present}"
        )
    uncut = getattr(settings, UNCUT_LAYERS, present)
    if kept < uncut:
        setattr(settings, UNCUT_LAYERS, uncut)
        setattr(settings, count_key, kept)
        encoder.layers = encoder.layers[:kept]
    return bool(kept < uncut)


def pad_waveforms(waveforms: Sequence[np.ndarray | Tensor]) -> tuple[Tensor, Tensor]:
    """Stack 1-D waveforms, zeros at the end: (waveforms_BS float32, num_samples_B int64)."""
    rows = [torch.as_tensor(waveform, dtype=torch.float32) for waveform in waveforms]
    num_samples_B = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True), num_samples_B


def valid(lengths_B: Tensor, size: int) -> Tensor:
    """B x size: whether a place lies within its row's length."""
    return torch.arange(size, device=lengths_B.device) < lengths_B[:, None]


def padding_mask(num_frames_B: Tensor, size: int) -> Tensor | None:
    """B x size, true where a row has a frame; `None` if all have, as far as that costs nothing.

    On a GPU, looking would wait for all pending work.
    """
    valid_BT = valid(num_frames_B, size)
    return None if valid_BT.device.type == "cpu" and bool(valid_BT.all()) else valid_BT


def stack_layers(
    outputs: Mapping[int, Tensor], layers: Sequence[int], valid_BT: Tensor | None
) -> Tensor:
    """The `layers` of `outputs` (each B x T x D) as one tensor, zero where there is no frame."""
    hidden_LBTD = torch.stack([outputs[layer] for layer in layers])
    if valid_BT is not None:
        hidden_LBTD.masked_fill_(~valid_BT[..., None], 0.0)
    return hidden_LBTD


@contextmanager
def recorded(modules: Sequence[nn.Module], layers: Collection[int]) -> Iterator[dict[int, Tensor]]:
    """What those of `modules` whose places are `layers` make inside the block."""
    outputs: dict[int, Tensor] = {}

    def keep(layer: int, _module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
        # WavLM's blocks return (frames, position bias), the others the frames alone.
        outputs[layer] = output[0] if isinstance(output, tuple) else output

    handles = [modules[layer].register_forward_hook(partial(keep, layer)) for layer in set(layers)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide transformers' bars: each of many workers would print one."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
