"""What has become of listed audio files: moved, changed, gone, or out of reach for now."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from pipeline.audio.audio_files import AudioFile, Place, list_audio
from pipeline.audio.utterance import Reject, Utterance
from pipeline.commands.unit_ids import Name
from pipeline.storage.folders import FileInfo, Folder

# Looking for files is waiting for a disk or an object store.
LOOKING_THREADS = 16
Fate = Literal["present", "absent", "hidden"]


@dataclass(frozen=True)
class Listed:
    """A file as it was when it was listed, its id and its shard; one without a shard has a reason.

    `root` is the folder that `name` counts from, and `prefix` what ids of its files begin with. `retry`
    says that it could not be opened, so that the next call tries again.
    """

    utt_id: str
    root: str
    name: str
    prefix: str
    bytes: int
    version: str
    duration: float
    shard: str
    reason: str
    retry: bool

    @classmethod
    def new(cls, name: Name, info: FileInfo) -> "Listed":
        place = name.place
        size, version = info.num_bytes, info.version
        return cls(
            name.utt_id,
            place.root,
            place.name,
            name.prefix,
            size,
            version,
            0.0,
            "",
            "",
            retry=False,
        )

    @property
    def audio(self) -> str:
        return Place(self.root, self.name).uri

    @property
    def info(self) -> FileInfo:
        return FileInfo(self.bytes, self.version)

    def at(self, place: Place | None) -> "Listed":
        """The same file where it is now; unmoved if `place` is None."""
        return self if place is None else replace(self, root=place.root, name=place.name)

    def utterance(self) -> Utterance:
        return Utterance(
            *(self.utt_id, "", self.audio, 0.0, self.duration),
            speaker="",
            text="",
            audio_version=str(self.info),
        )


@dataclass(frozen=True)
class Search:
    """What was found of audio: files, unusable paths with a reason, and folders that were searched."""

    files: Sequence[AudioFile]
    unusable: Sequence[Reject]
    folders: Collection[str]

    @classmethod
    def of(cls, paths: Sequence[str]) -> "Search":
        """Search folders, and take files as they are named.

        Raises:
            CorpusError, OSError: as `list_audio`.
        """
        files, unusable = list_audio(paths)
        named = {Folder.at(path).uri for path in paths} & {file.root for file in files}
        return cls(files, unusable, named)

    def covers(self, uri: str) -> bool:
        return any(uri.startswith(f"{folder.rstrip('/')}/") for folder in self.folders)

    def hides(self, uri: str) -> bool:
        """Whether it lies in a folder that cannot be read."""
        return _is_below(uri, self._unusable)

    @cached_property
    def _unusable(self) -> set[str]:
        return {reject.source for reject in self.unusable}


@dataclass(frozen=True)
class Changes:
    """What has become of listed files, by the addresses where they were listed.

    Attributes:
        moved: those that lie elsewhere now, unchanged.
        changed: those with another size or version, and those that could not be opened.
        gone: those that are not there any more.
        out_of_reach: those that may be there or not, by the folder that they were listed from.
        new: files that were not listed.
    """

    moved: Mapping[str, AudioFile]
    changed: Mapping[str, AudioFile]
    gone: Collection[str]
    out_of_reach: Mapping[str, int]
    new: Sequence[AudioFile]


def compare(known: Sequence[Listed], search: Search) -> Changes:
    """Compare what is listed with what is found now.

    A file that is not found is gone if its folder was searched. In other folders it is looked for
    by its address: it is gone if it is not there, but others of its folder are. Otherwise, as
    before a disk is mounted or where a folder cannot be read, it is out of reach.
    """
    files = {file.uri: file for file in search.files}
    listed = {each.audio: each for each in known}
    fates = _fates([each for uri, each in listed.items() if uri not in files], search)
    absent = [listed[uri] for uri, fate in fates.items() if fate == "absent"]
    new = [file for uri, file in files.items() if uri not in listed]
    moved = _moved(absent, new)
    arrived = {file.uri for file in moved.values()}
    seen = [uri for uri in listed if uri in files or uri in moved or fates[uri] == "present"]
    there = {file.root for file in search.files} | {listed[uri].root for uri in seen}
    unmoved = [each for each in absent if each.audio not in moved]
    gone = {each.audio for each in unmoved if search.covers(each.audio) or each.root in there}
    return Changes(
        moved=moved,
        changed={
            uri: files[uri]
            for uri, each in listed.items()
            if uri in files and (each.retry or files[uri].info != each.info)
        },
        gone=gone,
        out_of_reach=Counter(listed[uri].root for uri in listed.keys() - gone - set(seen)),
        new=[file for file in new if file.uri not in arrived],
    )


def _fates(missing: Sequence[Listed], search: Search) -> dict[str, Fate]:
    inside = [each for each in missing if search.covers(each.audio)]
    outside = [each for each in missing if not search.covers(each.audio)]
    fates: dict[str, Fate] = {
        each.audio: "hidden" if search.hides(each.audio) else "absent" for each in inside
    }
    with ThreadPoolExecutor(LOOKING_THREADS) as pool:
        return fates | dict(
            zip((each.audio for each in outside), pool.map(_look, outside), strict=True)
        )


def _look(listed: Listed) -> Fate:
    try:
        return "absent" if Folder(listed.root).info(listed.name) is None else "present"
    except OSError:
        return "hidden"


def _moved(absent: Sequence[Listed], new: Sequence[AudioFile]) -> dict[str, AudioFile]:
    """Those that lie below another folder now, under the same name, of the same size and version."""
    arrivals = {(file.name, file.info): file for file in reversed(new)}
    moved = {}
    for each in absent:
        file = arrivals.pop((each.name, each.info), None) if each.version else None
        if file is not None:
            moved[each.audio] = file
    return moved


def _is_below(uri: str, folders: Collection[str]) -> bool:
    parts = uri.split("/")
    return any("/".join(parts[:depth]) in folders for depth in range(1, len(parts)))
