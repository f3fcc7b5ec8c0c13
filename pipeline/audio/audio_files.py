"""Audio files outside any corpus: found below folders and buckets, and what their headers say."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.audio.decode import AudioError, probe_seconds, read_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import NOT_UTF_8, CorpusError, Reject
from pipeline.progress import SILENT, Progress
from pipeline.storage.folders import FileInfo, Folder, printable

# Common extensions of libsndfile's formats with a header; the content decides which one a file is.
EXTENSIONS = frozenset({
    "aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "rf64", "snd", "sph",
    "voc", "w64", "wav", "wave",
})  # fmt: skip
# Reading headers is waiting for a disk or an object store.
PROBING_THREADS = 16


@dataclass(frozen=True)
class Place:
    """Where a file is: `name` below the folder at the address `root`."""

    root: str
    name: str

    @classmethod
    def of(cls, uri: str) -> "Place":
        """A file in the folder that holds it, whether it exists or not."""
        folder, name = Folder.around(uri)
        return cls(folder.uri, name)

    @property
    def uri(self) -> str:
        return Folder(self.root).address(self.name)

    @property
    def stem(self) -> str:
        """The name without its extension."""
        folder, slash, leaf = self.name.rpartition("/")
        return f"{folder}{slash}{leaf.rpartition('.')[0] or leaf}"


@dataclass(frozen=True)
class AudioFile(Place):
    """A file below the folder that was named, or in the one that holds the named file."""

    info: FileInfo


def list_audio(paths: Sequence[str]) -> tuple[list[AudioFile], list[Reject]]:
    """The audio files below folders, known by their extensions, and files named one by one.

    Args:
        paths: folders and files, local or `s3://…`; folders are searched recursively.

    Returns:
        Every file once; and a reject for each broken link, folder that cannot be read, name that is
        not UTF-8 and the like. Both are sorted by address.

    Raises:
        CorpusError: a path does not exist, or there is no audio below it.
        OSError: a path cannot be read; a StorageError says why a bucket cannot.
    """
    files: dict[str, AudioFile] = {}
    rejects: dict[str, Reject] = {}
    for path in paths:
        found, unusable = _below(path)
        for file in found:
            files.setdefault(file.uri, file)
        rejects |= {reject.source: reject for reject in unusable}
    for uri in [uri for uri in files if printable(uri) != uri]:
        reject = Reject(None, uri, NOT_UTF_8)
        rejects[reject.source] = reject
        del files[uri]
    return [files[uri] for uri in sorted(files)], [rejects[uri] for uri in sorted(rejects)]


def probe_all(uris: Sequence[str], progress: Progress = SILENT) -> list[float | AudioError]:
    """For each file the seconds that its header says, or why it cannot be used.

    Only decoding shows whether the audio behind the header is complete.

    Raises:
        AudioStorageError: the storage failed.
    """
    results = []
    with ThreadPoolExecutor(PROBING_THREADS) as pool:
        for done, result in enumerate(pool.map(_probe, uris), start=1):
            results.append(result)
            progress.update(done, len(uris), "headers")
    return results


def read_whole(uri: str, grid: FrameGrid) -> npt.NDArray[np.float32]:
    """All samples (num_samples,) of a file at the grid's rate, at least enough for one frame.

    Raises:
        AudioError: as `read_audio`, or the file is shorter than one frame.
        AudioStorageError: the storage failed.
    """
    waveform = read_audio(uri, grid.sample_rate_hz)
    require_frame(len(waveform), grid)
    return waveform


def require_frame(num_samples: int, grid: FrameGrid) -> None:
    """Refuse audio that is shorter than one frame.

    Raises:
        AudioError: it is.
    """
    if not grid.num_frames(num_samples):
        shortest = grid.num_samples(1) / grid.sample_rate_hz
        raise AudioError(f"shorter than one frame of {shortest:g} s")


def _probe(uri: str) -> float | AudioError:
    try:
        return probe_seconds(uri)
    except AudioError as error:
        return error


def is_audio(name: str) -> bool:
    """Whether a file's extension is that of audio."""
    return name.lower().rpartition(".")[2] in EXTENSIONS


def _below(path: str) -> tuple[list[AudioFile], list[Reject]]:
    folder = Folder.at(path)
    listing = folder.listing()
    infos = listing.files
    if not infos:
        parent, name = Folder.around(path)
        info = parent.info(name)
        if info is not None:
            return [AudioFile(parent.uri, name, info)], []
    rejects = [
        Reject(None, folder.address(name).rstrip("/"), reason)
        for name, reason in listing.unusable.items()
    ]
    files = [AudioFile(folder.uri, name, info) for name, info in infos.items() if is_audio(name)]
    if not files and not rejects:
        others = f"; {len(infos)} files there have other extensions" * bool(infos)
        raise CorpusError(
            f"no audio found below {path}{others}: name files, or folders of files that end in "
            f"{', '.join(sorted(EXTENSIONS))}"
        )
    return files, rejects
