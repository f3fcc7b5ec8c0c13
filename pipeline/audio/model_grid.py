"""The grid of frames of an SSL model, from what its config.json says. Imports no PyTorch."""

from collections.abc import Mapping
from typing import Any

from pipeline.audio.frame_grid import SSL_GRID, FrameGrid

POOL = "ssl_pool"  # in the config.json of a saved model


def grid_of_model(settings: Mapping[str, Any]) -> FrameGrid:
    """The grid of the model with these settings; where they say nothing, the usual one."""
    family = settings.get("model_type")
    if family == "whisper":
        return _whisper(settings.get("max_source_positions", 1500))
    if family == "wav2vec2-bert":
        return FrameGrid(560, 320, 16000)  # two windows of 400 samples, 160 apart
    kernels, strides = settings.get("conv_kernel"), settings.get("conv_stride")
    if not isinstance(kernels, list | tuple) or not isinstance(strides, list | tuple):
        return SSL_GRID
    return FrameGrid.of_convolutions(kernels, strides, SSL_GRID.sample_rate_hz)


def grid_of_saved_model(settings: Mapping[str, Any]) -> FrameGrid:
    """The grid of the frames that a saved model gives, which are pooled where it says so."""
    return grid_of_model(settings).pooled(settings.get(POOL, 1))


def _whisper(num_positions: int) -> FrameGrid:
    """Frame i is centred on sample 320 i: spectra and convolutions reach as far to either side.

    It hears 1,040 samples, most of them faintly, and stands for the 320 in the middle.
    """
    rate_hz, hop = 16000, 320
    return FrameGrid(hop, hop, rate_hz, start=-hop // 2, max_frames=num_positions)
