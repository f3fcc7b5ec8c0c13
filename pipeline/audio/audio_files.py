"""Audio files outside any corpus: found below folders and buckets, and what their headers say."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.audio.decode import AudioError, probe_seconds, read_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import NOT_UTF_8, CorpusError, Reject, Utterance
from pipeline.progress import SILENT, Progress
from pipeline.storage.folders import Folder, printable

# Common extensions of libsndfile's formats with a header; the content decides which one a file is.
EXTENSIONS = frozenset({
    "aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "rf64", "snd", "sph",
    "voc", "w64", "wav", "wave",
})  # fmt: skip
# Reading headers is waiting for a disk or an object store.
PROBING_THREADS = 16


@dataclass(frozen=True)
class AudioFile:
    """An address and a size; `utt_id` is the path below the named folder, without extension."""

    utt_id: str
    uri: str
    num_bytes: int


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


def probe_all(files: Sequence[AudioFile], progress: Progress = SILENT) -> list[Utterance | Reject]:
    """Each file as an utterance with the duration in its header, or a reject with the reason.

    Only decoding shows whether the audio behind the header is complete.

    Raises:
        AudioStorageError: the storage failed.
    """
    results: list[Utterance | Reject] = []
    with ThreadPoolExecutor(PROBING_THREADS) as pool:
        for done, result in enumerate(pool.map(_probe, files), start=1):
            results.append(result)
            progress.update(done, len(files), "headers")
    return results


def read_whole(uri: str, grid: FrameGrid) -> npt.NDArray[np.float32]:
    """All samples (num_samples,) of a file at the grid's rate, at least enough for one frame.

    Raises:
        AudioError: as `read_audio`, or the file is shorter than one frame.
        AudioStorageError: the storage failed.
    """
    waveform = read_audio(uri, grid.sample_rate_hz)
    if not grid.num_frames(len(waveform)):
        shortest = grid.receptive_field / grid.sample_rate_hz
        raise AudioError(f"shorter than one frame of {shortest:g} s")
    return waveform


def _probe(file: AudioFile) -> Utterance | Reject:
    try:
        seconds = probe_seconds(file.uri)
    except AudioError as error:
        return Reject(file.utt_id, file.uri, str(error))
    return Utterance(file.utt_id, "", file.uri, 0.0, seconds, speaker="", text="")


def _below(path: str) -> tuple[list[AudioFile], list[Reject]]:
    folder = Folder.at(path)
    listing = folder.listing()
    infos = listing.files
    if not infos:
        parent, name = Folder.around(path)
        info = parent.info(name)
        if info is not None:
            return [AudioFile(_stem(name), parent.address(name), info.num_bytes)], []
    rejects = [
        Reject(None, folder.address(name).rstrip("/"), reason)
        for name, reason in listing.unusable.items()
    ]
    files = [
        AudioFile(_stem(name), folder.address(name), info.num_bytes)
        for name, info in infos.items()
        if name.lower().rpartition(".")[2] in EXTENSIONS
    ]
    if not files and not rejects:
        others = f"; {len(infos)} files there have other extensions" * bool(infos)
        raise CorpusError(
            f"no audio found below {path}{others}: name files, or folders of files that end in "
            f"{', '.join(sorted(EXTENSIONS))}"
        )
    return files, rejects


def _stem(name: str) -> str:
    folder, slash, leaf = name.rpartition("/")
    return f"{folder}{slash}{leaf.rpartition('.')[0] or leaf}"
