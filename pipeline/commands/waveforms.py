"""Audio files as they come: of any rate and length, some of them unusable."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from rich.console import Console

from pipeline.data.audio import AudioError, read_audio
from pipeline.data.frames import FrameGrid

WINDOW_SECONDS = 60.0
CONTEXT_SECONDS = 2.0
PAUSE_SECONDS = 0.1


def readable(
    audio: Sequence[str], grid: FrameGrid, console: Console
) -> Iterator[tuple[str, np.ndarray]]:
    """Each usable file with its waveform (num_samples,); the others are named in red."""
    for uri in audio:
        try:
            waveform = read_audio(uri, grid.sample_rate_hz)
        except AudioError as error:
            console.print(f"{uri}: {error}", style="red", markup=False, soft_wrap=True)
            continue
        if grid.num_frames(len(waveform)):
            yield uri, waveform
        else:
            shortest = grid.receptive_field / grid.sample_rate_hz
            line = f"{uri}: shorter than one frame of {shortest:g} s"
            console.print(line, style="red", markup=False, soft_wrap=True)


def encode_windows(
    encode: Callable[[list[np.ndarray]], list[np.ndarray]],
    waveform: np.ndarray,
    grid: FrameGrid,
    window_seconds: float = WINDOW_SECONDS,
) -> np.ndarray:
    """`encode` over any length: one row a frame of `grid`, windows joined without a seam.

    The memory of an SSL model grows with the square of the length. Each window sees
    `CONTEXT_SECONDS` more on both sides, whose frames are left to its neighbours.
    """
    num_frames = grid.num_frames(len(waveform))
    window = max(1, round(window_seconds * grid.frames_per_second))
    context = round(CONTEXT_SECONDS * grid.frames_per_second)
    rows = []
    for start in range(0, num_frames, window):
        end = min(start + window, num_frames)
        first, last = max(0, start - context), min(num_frames, end + context)
        samples = waveform[first * grid.hop : (last - 1) * grid.hop + grid.receptive_field]
        (encoded,) = encode([samples])
        rows.append(encoded[start - first : end - first])
    return np.concatenate(rows)


def split_at_pauses(
    waveform: np.ndarray, sample_rate_hz: int, max_seconds: float
) -> list[np.ndarray]:
    """The waveform in pieces of at most `max_seconds`, cut where its second half is quietest."""
    longest = int(max_seconds * sample_rate_hz)
    block = int(PAUSE_SECONDS * sample_rate_hz)
    pieces = []
    while len(waveform) > longest:
        half = longest // 2
        blocks = waveform[half : half + (longest - half) // block * block].reshape(-1, block)
        quietest = int(np.square(blocks).mean(axis=1).argmin())
        cut = half + quietest * block + block // 2
        pieces.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*pieces, waveform]
