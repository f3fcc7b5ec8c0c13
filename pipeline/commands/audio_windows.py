"""Audio files of any rate and length as overlapping windows, few of them in memory at a time."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.console import Console

from pipeline.audio.audio_files import require_frame
from pipeline.audio.decode import AudioError, AudioStorageError, read_slices
from pipeline.audio.frame_grid import FrameGrid
from pipeline.commands.waveforms import doubts_of
from pipeline.features.windows import Windowing
from pipeline.storage.folders import printable


@dataclass(frozen=True)
class AudioWindow:
    """The samples of a file from `start` to `end` seconds.

    `is_last` says that the file has been read to its end, and that all of it can be used.
    """

    uri: str
    start: float
    end: float
    waveform: npt.NDArray[np.float32]
    is_last: bool = False


def windows_of(
    audio: Iterable[str], grid: FrameGrid, windowing: Windowing, console: Console
) -> Iterator[AudioWindow]:
    """The windows of each file, in their order; at least one frame each.

    A file that cannot be used is reported in red, and has no last window. What a corpus would reject
    or warn of is reported once the file has been used.
    """
    for uri in audio:
        doubts: dict[float, list[str]] = {}
        try:
            for window in _windows(uri, grid, windowing):
                doubts[window.start] = doubts_of(window.waveform, grid.sample_rate_hz)
                yield window
        except (AudioError, AudioStorageError) as error:
            console.print(printable(f"{uri}: {error}"), style="red", markup=False, soft_wrap=True)
            continue
        for line in _summary(doubts):
            console.print(f"{printable(uri)}: {line}", style="yellow", markup=False, soft_wrap=True)


def _windows(uri: str, grid: FrameGrid, windowing: Windowing) -> Iterator[AudioWindow]:
    def plan(num_samples: int) -> list[slice]:
        require_frame(num_samples, grid)
        slices = [window.samples for window in windowing.plan(num_samples, grid)]
        # What lies behind the last frame is read too, in case it is damaged.
        return [*slices[:-1], slice(slices[-1].start, num_samples)]

    rate_hz = grid.sample_rate_hz
    before: AudioWindow | None = None
    for part, waveform in read_slices(uri, rate_hz, plan):
        if before is not None:
            yield before
        before = AudioWindow(uri, part.start / rate_hz, part.stop / rate_hz, waveform)
    # Only now is it known that no part of the file is damaged.
    if before is not None:
        yield replace(before, is_last=True)


def _summary(doubts: Mapping[float, Sequence[str]]) -> list[str]:
    """A line for each kind of doubt: the first of its kind, and in how many windows there is one."""
    by_kind: dict[str, list[tuple[float, str]]] = {}
    for start, found in doubts.items():
        for doubt in found:
            by_kind.setdefault(doubt.partition(":")[0], []).append((start, doubt))
    if len(doubts) == 1:
        return [doubt for ((_, doubt),) in by_kind.values()]
    return [
        f"in {len(found)} of {len(doubts)} windows, first at {found[0][0]:.0f} s: {found[0][1]}"
        for found in by_kind.values()
    ]
