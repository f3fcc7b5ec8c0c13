"""Waveforms as people hold them, in arrays and tensors of any usual type, as a model hears them."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.signal import LARGEST, extremes, fault

# A file that was accepted may be louder when it is resampled; a part of it may be silent.
_LARGEST = 2 * LARGEST
# Kind and bytes of a type: the value of silence, and how far full scale is from it.
_INTEGERS = {
    ("i", 1): (0, 2**7),
    ("i", 2): (0, 2**15),
    ("i", 4): (0, 2**31),
    ("u", 1): (2**7, 2**7),
}


def as_waveforms(waveforms: Iterable[Any], grid: FrameGrid) -> list[npt.NDArray[np.float32]]:
    """Each waveform as float32 (num_samples,), where full scale is 1.

    Args:
        waveforms: a list with an array, a tensor or a list of numbers for each recording; floats in
            [-1, 1], or integers of 8, 16 or 32 bits, which are scaled. An axis of length 1 may stand
            for the one channel.
        grid: the frames that they are to have.

    Raises:
        ValueError: it is no such list; or a waveform has several channels or another type, holds NaN
            or infinite samples, is out of scale, or is shorter than one frame.
    """
    if (shape := getattr(waveforms, "shape", None)) is not None:
        raise ValueError(
            f"waveforms is one array of shape {tuple(shape)}: give a list with an array for each recording, "
            "such as encode([waveform])"
        )
    if isinstance(waveforms, str | bytes | Mapping) or not isinstance(waveforms, Iterable):
        raise ValueError(  # noqa: TRY004 - one error for whatever an argument is
            f"waveforms is of type {type(waveforms).__name__}: give a list with an array for each "
            "recording; pipeline.audio.decode.read_audio reads them from files"
        )
    return [_as_waveform(each, f"waveforms[{index}]", grid) for index, each in enumerate(waveforms)]


def _as_waveform(waveform: Any, name: str, grid: FrameGrid) -> npt.NDArray[np.float32]:
    samples = _one_channel(_as_array(waveform, name), name)
    if not grid.num_frames(len(samples)):
        raise ValueError(
            f"{name} has {len(samples)} samples, less than the {grid.num_samples(1)} of one frame at "
            f"{grid.sample_rate_hz} Hz: leave it out"
        )
    samples_S = _scaled(samples, name)
    if reason := fault(*extremes(samples_S), _LARGEST, smallest=0.0):
        raise ValueError(f"{name}: {reason}")
    # A tensor shares no memory that may not be written, or that runs backwards.
    with np.errstate(over="ignore"):
        return np.require(samples_S, np.float32, ["C", "W"])


def _as_array(waveform: Any, name: str) -> npt.NDArray[Any]:
    if np.ma.is_masked(waveform):
        raise ValueError(f"{name} has masked samples: fill them")
    try:
        if isinstance(waveform, torch.Tensor):
            tensor = waveform.detach().cpu()
            # numpy has no bfloat16.
            return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
        return np.asarray(waveform)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{name} is no array of numbers: give the samples alone, without their rate ({error})"
        ) from None


def _one_channel(array: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    if array.ndim == 0:
        raise ValueError(
            f"{name} is of type {array.dtype}, not an array: give a list with an array for each "
            "recording, such as encode([waveform])"
        )
    if array.size != max(array.shape):
        channels = int(np.argmin(array.shape))
        raise ValueError(
            f"{name} has the shape {array.shape}: give one channel at a time, such as their mean, "
            f"waveform.mean({channels})"
        )
    return array.reshape(-1)


def _scaled(samples: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """Floats as they are, integers by their full scale."""
    kind, num_bytes = samples.dtype.kind, samples.dtype.itemsize
    if kind == "f":
        return samples
    if (kind, num_bytes) not in _INTEGERS:
        raise ValueError(
            f"{name} is of type {samples.dtype}, which has no full scale: give floats in [-1, 1], or "
            "int16 as WAV files have it"
        )
    silence, full_scale = _INTEGERS[kind, num_bytes]
    scaled = (samples.astype(np.float32) - silence) / np.float32(full_scale)
    if num_bytes == 4 and 0 < np.abs(scaled).max() <= 2.0**-16:
        raise ValueError(
            f"{name} is of type int32 and holds 16-bit numbers, which are nearly silent at its scale: "
            "give waveform.astype('int16')"
        )
    return scaled
