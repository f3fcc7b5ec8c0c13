"""Audio nobody prepared: the files below folders and buckets, and what their headers say."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.audio.decode import AudioError, probe, read_audio
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import CorpusError, Reject, Utterance
from pipeline.progress import SILENT, Progress
from pipeline.storage.folders import Folder

# What libsndfile's formats with a header are commonly called. Which one a file is, its content says.
ENDINGS = frozenset({
    "aif", "aifc", "aiff", "au", "caf", "flac", "mp3", "oga", "ogg", "opus", "rf64", "snd", "sph",
    "voc", "w64", "wav", "wave",
})  # fmt: skip
# Headers are a matter of waiting, for a disk or an object store.
PROBING_THREADS = 16


@dataclass(frozen=True)
class AudioFile:
    """A file by its address and size; `utt_id` is its path below the named folder, less the ending."""

    utt_id: str
    uri: str
    num_bytes: int


def list_audio(places: Sequence[str]) -> list[AudioFile]:
    """The audio files below folders, known by their endings, and files named one by one.

    Args:
        places: folders and files, local or `s3://…`; folders are searched to their depth.

    Returns:
        Every file once, sorted by address.

    Raises:
        CorpusError: a place does not exist, or there is no audio below it.
        OSError: a place cannot be read; a StorageError says why a bucket cannot.
    """
    found: dict[str, AudioFile] = {}
    for place in places:
        for file in _below(place):
            found.setdefault(file.uri, file)
    return [found[uri] for uri in sorted(found)]


def probe_all(files: Sequence[AudioFile], progress: Progress = SILENT) -> list[Utterance | Reject]:
    """Each file as an utterance with the duration that its header tells, or why it can be none.

    That the audio behind the header is whole, only decoding it shows.

    Raises:
        AudioStorageError: the storage failed.
    """
    results: list[Utterance | Reject] = []
    with ThreadPoolExecutor(PROBING_THREADS) as pool:
        for done, result in enumerate(pool.map(_probe_one, files), start=1):
            results.append(result)
            progress.update(done, len(files), "headers")
    return results


def read_whole(uri: str, grid: FrameGrid) -> npt.NDArray[np.float32]:
    """The samples (num_samples,) of a file at the grid's rate, enough for one frame at least.

    Raises:
        AudioError: as `read_audio`, or there are fewer.
        AudioStorageError: the storage failed.
    """
    waveform = read_audio(uri, grid.sample_rate_hz)
    if not grid.num_frames(len(waveform)):
        shortest = grid.receptive_field / grid.sample_rate_hz
        raise AudioError(f"shorter than one frame of {shortest:g} s")
    return waveform


def _probe_one(file: AudioFile) -> Utterance | Reject:
    try:
        seconds = probe(file.uri).duration_seconds
    except AudioError as error:
        return Reject(file.utt_id, file.uri, str(error))
    return Utterance(file.utt_id, "", file.uri, 0.0, seconds, speaker="", text="")


def _below(place: str) -> list[AudioFile]:
    folder = Folder.at(place)
    sizes = folder.files()
    if not sizes:
        parent, name = Folder.around(place)
        size = parent.size(name)
        if size is not None:
            return [AudioFile(_stem(name), parent.locate(name), size)]
    files = [
        AudioFile(_stem(name), folder.locate(name), size)
        for name, size in sizes.items()
        if name.lower().rpartition(".")[2] in ENDINGS
    ]
    if not files:
        others = f"; {len(sizes)} files there have other endings" * bool(sizes)
        raise CorpusError(
            f"no audio found below {place}{others}: name files, or folders of files that end in "
            f"{', '.join(sorted(ENDINGS))}"
        )
    return files


def _stem(name: str) -> str:
    folder, slash, leaf = name.rpartition("/")
    return f"{folder}{slash}{leaf.rpartition('.')[0] or leaf}"
