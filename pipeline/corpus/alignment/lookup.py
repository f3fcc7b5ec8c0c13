"""Alignments that lie apart from their corpus, and which of them belongs to which utterance.

A TextGrid or .PHN file is named by its path below the folder, without the extension; a CTM line by
its first column. What is named after a recording counts its seconds from the recording's start;
what is named after an utterance, from the utterance's. A name that is both is the recording's.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import IO, Protocol

from pipeline.audio.utterance import AlignmentError, CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import AlignmentFormat, RecordedCorpus
from pipeline.corpus.alignment.ctm import Ctm
from pipeline.corpus.alignment.phn import parse_phn
from pipeline.corpus.alignment.recording_alignment import RecordingAlignment
from pipeline.corpus.alignment.textgrid import parse_textgrid
from pipeline.storage.folders import Folder

_FORMATS: dict[str, AlignmentFormat] = {"textgrid": "textgrid", "ctm": "ctm", "phn": "phn"}

# The utterances of a long recording mostly follow each other.
_TRACKS_AT_HAND = 16


@dataclass(frozen=True)
class AlignmentFiles:
    """The files of one format below a folder: relative name to size in bytes."""

    folder: Folder
    format: AlignmentFormat
    sizes: dict[str, int]

    def fingerprint(self) -> list[str]:
        """Names and sizes; CTM, which is few files, by content."""
        if self.format != "ctm":
            return [f"{name} {size}" for name, size in self.sizes.items()]
        contents = ((name, self.folder.read(name)) for name in self.sizes)
        return [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in contents]

    def opened(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Each file by name, one after the other."""
        for name in self.sizes:
            with self.folder.open(name) as file:
                yield name, file


def list_alignments(config: RecordedCorpus) -> AlignmentFiles | None:
    """What the config's `alignments` names, a folder or a file; None where it names nothing.

    Raises:
        CorpusError: nothing of a known format is there, or files of several formats are.
    """
    if config.alignments is None:
        return None
    chosen = config.alignment_format
    folder, name = Folder.around(config.alignments)
    size = folder.size(name)
    if size is not None:
        sizes, formats = {name: size}, {name: chosen or _format_of(name)}
    else:
        folder = Folder.at(config.alignments)
        sizes = folder.files()
        formats = {name: _format_of(name) for name in sizes}
    found = {one for one in formats.values() if one and chosen in (None, one)}
    if len(found) > 1:
        raise CorpusError(
            f"corpus.alignments '{config.alignments}' holds files of several formats, "
            f"{sorted(found)}: set corpus.alignment_format to one of them"
        )
    if not found:
        raise CorpusError(
            f"corpus.alignments '{config.alignments}' is no file or folder of alignments (.TextGrid, "
            ".ctm or .PHN): check the path; name a file of another extension itself, with "
            "corpus.alignment_format; or leave the key out"
        )
    (kind,) = found
    kept = {name: size for name, size in sizes.items() if formats[name] == kind}
    return AlignmentFiles(folder, kind, kept)


def _format_of(name: str) -> AlignmentFormat | None:
    return _FORMATS.get(name.rpartition(".")[2].lower())


class Alignments:
    """Finds each utterance's alignment in what the config's `alignments` names."""

    def __init__(self, config: RecordedCorpus) -> None:
        """List the files; of CTM, read them.

        Raises:
            CorpusError: as `list_alignments`.
        """
        files = list_alignments(config)
        self._source = config.alignments
        self._tracks = _tracks(files, config.alignment_tier) if files else None
        self._missed: Utterance | None = None
        self._found_any = False

    def attach(self, utterance: Utterance) -> Utterance | Reject:
        """The utterance with its alignment; one that it brings along is kept.

        None where there is no alignment of it; a reject where there is one that cannot be used.
        """
        if self._tracks is None or utterance.alignment is not None:
            return utterance
        try:
            alignment = _find(self._tracks, utterance)
        except AlignmentError as error:
            self._found_any = True
            return Reject(utterance.utt_id, utterance.audio, str(error))
        if alignment is None:
            self._missed = utterance
            return utterance
        self._found_any = True
        return replace(utterance, alignment=alignment)

    def require_matches(self) -> None:
        """Refuse alignments of which none belonged to any utterance.

        Raises:
            CorpusError: so it is; purity would otherwise be left out without a word.
        """
        if self._tracks is not None and self._missed and not self._found_any:
            raise CorpusError(
                f"corpus.alignments '{self._source}' holds nothing for any utterance: its names "
                f"must be those of utterances (such as '{self._missed.utt_id}') or recordings "
                f"(such as '{self._missed.audio}'), but are such as '{self._tracks.example}'"
            )


class _Tracks(Protocol):
    """Tracks by key."""

    @property
    def example(self) -> str:
        """One of the names."""

    def named(self, name: str) -> str | None:
        """The key of an utterance's or a recording's name."""

    def beside(self, audio: str) -> str | None:
        """The key of a recording by its address."""

    def load(self, key: str) -> RecordingAlignment:
        """The track of a key."""


def _find(tracks: _Tracks, utterance: Utterance) -> tuple[Segment, ...] | None:
    recording = utterance.recording
    key = tracks.named(recording) if recording is not None else None
    key = key if key is not None else tracks.beside(utterance.audio)
    if key is not None:
        return tracks.load(key).cut(utterance.offset, utterance.duration)
    key = tracks.named(utterance.utt_id)
    return None if key is None else tracks.load(key).segments


def _tracks(files: AlignmentFiles, tier: str) -> _Tracks:
    return _CtmTracks(files) if files.format == "ctm" else _FileTracks(files, tier)


class _FileTracks:
    """A file a track."""

    def __init__(self, files: AlignmentFiles, tier: str) -> None:
        self._files, self._tier = files, tier
        self._by_path = {name.rpartition(".")[0]: name for name in files.sizes}
        self._by_name: dict[str, list[str]] = {}
        for path, name in self._by_path.items():
            self._by_name.setdefault(path.rpartition("/")[2], []).append(name)
        self.load = lru_cache(_TRACKS_AT_HAND)(self._load)

    @property
    def example(self) -> str:
        return next(iter(self._files.sizes))

    def named(self, name: str) -> str | None:
        found = self._by_name.get(name, [])
        if len(found) > 1:
            raise AlignmentError(f"several alignments of one name: {found[0]}, {found[1]}")
        return found[0] if found else None

    def beside(self, audio: str) -> str | None:
        # Whole paths only: TIMIT has an SA1.PHN of each speaker.
        return next((self._by_path[end] for end in _ends(audio) if end in self._by_path), None)

    def _load(self, key: str) -> RecordingAlignment:
        content = self._files.folder.read(key)
        phn = self._files.format == "phn"
        return RecordingAlignment.of(
            parse_phn(content) if phn else parse_textgrid(content, self._tier)
        )


class _CtmTracks:
    """A name of the first column a track."""

    def __init__(self, files: AlignmentFiles) -> None:
        self._ctm = Ctm(files.opened())
        self.load = lru_cache(_TRACKS_AT_HAND)(
            lambda name: RecordingAlignment.of(self._ctm.segments(name))
        )

    @property
    def example(self) -> str:
        return next(iter(self._ctm.names), "")

    def named(self, name: str) -> str | None:
        return name if name in self._ctm.names else None

    def beside(self, audio: str) -> str | None:
        return next((end for end in _ends(audio) if end in self._ctm.names), None)


def _ends(audio: str) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c` of the audio `a/b/c.wav`: its path without extension, longest first."""
    folder, _, name = audio.rpartition("/")
    path = f"{folder}/{name.rpartition('.')[0] or name}".lstrip("/")
    while path:
        yield path
        path = path.partition("/")[2]
