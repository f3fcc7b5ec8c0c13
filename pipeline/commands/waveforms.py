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
        for doubt in doubts_of(waveform, grid.sample_rate_hz):
            line = f"{printable(uri)}: {doubt}"
            console.print(line, style="yellow", markup=False, soft_wrap=True)


def doubts_of(waveform: np.ndarray, sample_rate_hz: int) -> list[str]:
    """What a corpus would reject the waveform for, or else warn of; each begins with its kind."""
    try:
        return examine(Signal.of(waveform[:, None], sample_rate_hz))
    except UnusableError as error:
        return [str(error)]
