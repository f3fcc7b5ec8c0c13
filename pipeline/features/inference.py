"""An SSL model that encodes batch after batch, as its device does it fastest.

On a GPU, weights are in bfloat16, batches are padded to few lengths, blocks are compiled for the lengths
that are worth it, and what was made is copied to the host while the next batch is computed. On a CPU,
batches go through as they are. Extraction and saved tokenizers both encode with this.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.features.batching import rounded_frames
from pipeline.features.compilation import Compilation
from pipeline.features.ssl import HiddenStates, SslModel, pad_waveforms

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Compile = Literal["auto", "off"]
# Waits for the frames of a waveform, which are on their way, and returns them.
Awaited = Callable[[], np.ndarray]
FEWEST_DECODING_THREADS = 2


def dtype_on(device: torch.device, precision: Precision) -> torch.dtype:
    """What a model computes in; `auto` is bfloat16 on a GPU and float32 elsewhere."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def decoding_threads(device: torch.device) -> int:
    """How many threads decode for a model on `device`: beside a GPU, as many as its worker has cores."""
    cores = torch.get_num_threads() if device.type == "cuda" else 0
    return max(FEWEST_DECODING_THREADS, cores)


class Inference:
    """Begins to encode batches with `ssl`, on the device where it is.

    Args:
        ssl: used as it is, and not changed but by compilation.
        compiling: `auto` compiles on a GPU for lengths that are worth it.
    """

    def __init__(self, ssl: SslModel, compiling: Compile = "auto") -> None:
        self._ssl = ssl
        self._compilation = Compilation(ssl) if compiling == "auto" else None

    @property
    def device(self) -> torch.device:
        return next(self._ssl.parameters()).device

    @property
    def pads(self) -> bool:
        """Whether batches are padded to few lengths."""
        return self.device.type == "cuda"

    def padded_samples(self, num_samples: int) -> int:
        """How many samples the model goes through for an utterance of so many."""
        padded = self._ssl.padded_samples(num_samples)
        return self._rounded(padded) if self.pads else padded

    @torch.inference_mode()
    def start(
        self,
        waveforms: Sequence[np.ndarray],
        layers: Sequence[int],
        describe: Callable[[Tensor], Tensor],
    ) -> list[Awaited]:
        """What waits for the frames (… x T x D) of each waveform, without its padding.

        Args:
            waveforms: of similar length, at the model's sample rate.
            layers: those that `describe` gets.
            describe: turns hidden_LBTD into what is wanted of it, B x … x T x D, on the device.
        """
        if self.pads:
            hidden_LBTD = self._in_few_lengths(waveforms, layers)
        else:
            hidden_LBTD = self._ssl(*pad_waveforms(waveforms), layers).hidden_LBTD
        made = _Made(describe(hidden_LBTD))
        lengths = [self._ssl.grid.num_frames(len(waveform)) for waveform in waveforms]
        return [partial(made.row, *row) for row in enumerate(lengths)]

    def _in_few_lengths(self, waveforms: Sequence[np.ndarray], layers: Sequence[int]) -> Tensor:
        num_samples_B = torch.tensor([len(waveform) for waveform in waveforms])
        size = self._rounded(max(map(len, waveforms)))
        pinned = self.device.type == "cuda"
        padded_BS = torch.zeros((len(waveforms), size), pin_memory=pinned)
        for row_S, waveform in zip(padded_BS, waveforms, strict=True):
            row_S[: len(waveform)] = torch.from_numpy(waveform)
        waveforms_BS = padded_BS.to(self.device, non_blocking=True)

        def forward() -> Tensor:
            hidden: HiddenStates = self._ssl(waveforms_BS, num_samples_B, layers)
            return hidden.hidden_LBTD

        if self._compilation is None:
            return forward()
        return self._compilation.run(forward, (size, len(waveforms) > 1))

    def _rounded(self, num_samples: int) -> int:
        """The most samples that give as many frames as the length above has."""
        grid = self._ssl.grid
        num_frames = rounded_frames(max(1, grid.num_frames(num_samples)))
        most = min(num_frames, grid.max_frames or num_frames)
        return max(num_samples, grid.num_samples(most + 1) - 1)


class _Made:
    """What was made of a batch, B x … x T x D, on its way to the host."""

    def __init__(self, made: Tensor) -> None:
        # From a GPU, into pinned memory: so the host goes on until it reads.
        self._on_host = made.to("cpu", non_blocking=True)
        self._copied: torch.cuda.Event | None = None
        if made.device.type == "cuda":
            self._copied = torch.cuda.current_stream(made.device).record_event()

    def row(self, row: int, length: int) -> np.ndarray:
        if self._copied is not None:
            self._copied.synchronize()
        return self._on_host[row, ..., :length, :].numpy()
