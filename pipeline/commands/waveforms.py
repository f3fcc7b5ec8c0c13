"""Audio files of any rate and length, some of them unusable."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import Console

from pipeline.audio.audio_files import read_whole
from pipeline.audio.decode import AudioError, AudioStorageError
from pipeline.audio.doubts import examine
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.signal import Signal
from pipeline.audio.unusable import UnusableError
from pipeline.storage.folders import printable

PAUSE_SECONDS = 0.1


def readable(
    audio: Sequence[str], grid: FrameGrid, console: Console
) -> Iterator[tuple[str, np.ndarray]]:
    """The `printable` name of each usable file, and its waveform (num_samples,).

    Others are reported in red: a storage that fails costs no more than what it does not deliver.
    What a corpus would reject or warn of is reported once the file has been used.
    """
    for uri in audio:
        try:
            waveform = read_whole(uri, grid)
        except (AudioError, AudioStorageError) as error:
            console.print(printable(f"{uri}: {error}"), style="red", markup=False, soft_wrap=True)
            continue
        yield printable(uri), waveform
        for doubt in _doubts(waveform, grid.sample_rate_hz):
            line = f"{printable(uri)}: {doubt}"
            console.print(line, style="yellow", markup=False, soft_wrap=True)


def _doubts(waveform: np.ndarray, sample_rate_hz: int) -> list[str]:
    try:
        return examine(Signal.of(waveform[:, None], sample_rate_hz))
    except UnusableError as error:
        return [str(error)]


def split_at_pauses(
    waveform: np.ndarray, sample_rate_hz: int, max_seconds: float
) -> list[np.ndarray]:
    """The waveform in parts of at most `max_seconds`, cut where the second half is quietest."""
    longest = int(max_seconds * sample_rate_hz)
    block = int(PAUSE_SECONDS * sample_rate_hz)
    parts = []
    while len(waveform) > longest:
        half = longest // 2
        blocks = waveform[half : half + (longest - half) // block * block].reshape(-1, block)
        quietest = int(np.square(blocks).mean(axis=1).argmin())
        cut = half + quietest * block + block // 2
        parts.append(waveform[:cut])
        waveform = waveform[cut:]
    return [*parts, waveform]
