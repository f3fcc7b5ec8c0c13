"""Alignments in files of their own, and which of them belongs to which utterance.

The name of a TextGrid or .PHN file is its path below the folder, without the extension; the name of
a CTM line is its first column. If it is the name of a recording, times count from the recording's
start; if it is the name of an utterance, from the utterance's. A name that is both is the
recording's.
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

# Utterances of one recording mostly follow each other.
_CACHED_RECORDINGS = 16


@dataclass(frozen=True)
class AlignmentFiles:
    """The files of one format below a folder; `sizes` maps relative names to bytes."""

    folder: Folder
    format: AlignmentFormat
    sizes: dict[str, int]

    def fingerprint(self) -> list[str]:
        """Names and sizes; for CTM, which has few files, names and contents."""
        if self.format != "ctm":
            return [f"{name} {size}" for name, size in self.sizes.items()]
        contents = ((name, self.folder.read(name)) for name in self.sizes)
        return [f"{name} {hashlib.sha256(content).hexdigest()}" for name, content in contents]

    def opened(self) -> Iterator[tuple[str, IO[bytes]]]:
        """Each file with its name, one after the other."""
        for name in self.sizes:
            with self.folder.open(name) as file:
                yield name, file


def list_alignments(config: RecordedCorpus) -> AlignmentFiles | None:
    """The files that the config's `alignments` names, a folder or a file; None without that key.

    Raises:
        CorpusError: there are no files of a known format, or files of several formats.
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
    present = {name for name in formats.values() if name and chosen in (None, name)}
    if len(present) > 1:
        raise CorpusError(
            f"corpus.alignments '{config.alignments}' holds files of several formats, "
            f"{sorted(present)}: set corpus.alignment_format to one of them"
        )
    if not present:
        raise CorpusError(
            f"corpus.alignments '{config.alignments}' is not a file or folder of alignments (.TextGrid, "
            ".ctm or .PHN): check the path; for a file with another extension, set "
            "corpus.alignment_format; or leave the key out"
        )
    (kind,) = present
    kept = {name: size for name, size in sizes.items() if formats[name] == kind}
    return AlignmentFiles(folder, kind, kept)


def _format_of(name: str) -> AlignmentFormat | None:
    return _FORMATS.get(name.rpartition(".")[2].lower())


class Alignments:
    """Finds each utterance's alignment in the files that the config's `alignments` names."""

    def __init__(self, config: RecordedCorpus) -> None:
        """List the files; CTM files are read at once.

        Raises:
            CorpusError: as `list_alignments`.
        """
        files = list_alignments(config)
        self._source = config.alignments
        self._recordings = _recordings(files, config.alignment_tier) if files else None
        self._unmatched: Utterance | None = None
        self._matched_any = False

    def attach(self, utterance: Utterance) -> Utterance | Reject:
        """The utterance with its alignment; one that it already has takes precedence.

        Unchanged if it has no alignment; a reject if it has one that cannot be used.
        """
        if self._recordings is None or utterance.alignment is not None:
            return utterance
        try:
            alignment = _find(self._recordings, utterance)
        except AlignmentError as error:
            self._matched_any = True
            return Reject(utterance.utt_id, utterance.audio, str(error))
        if alignment is None:
            self._unmatched = utterance
            return utterance
        self._matched_any = True
        return replace(utterance, alignment=alignment)

    def require_matches(self) -> None:
        """Refuse alignments that matched no utterance: purity would silently be missing.

        Raises:
            CorpusError: there were utterances, and none had an alignment.
        """
        if self._recordings is not None and self._unmatched and not self._matched_any:
            raise CorpusError(
                f"corpus.alignments '{self._source}' matches no utterance: its names "
                f"must be those of utterances (such as '{self._unmatched.utt_id}') or recordings "
                f"(such as '{self._unmatched.audio}'), but are such as '{self._recordings.example}'"
            )


class _Recordings(Protocol):
    """Alignments of recordings by key."""

    @property
    def example(self) -> str:
        """One of the names."""

    def named(self, name: str) -> str | None:
        """The key of an utterance's or a recording's name."""

    def beside(self, audio: str) -> str | None:
        """The key of a recording by its address."""

    def load(self, key: str) -> RecordingAlignment:
        """The alignment of a key."""


def _find(recordings: _Recordings, utterance: Utterance) -> tuple[Segment, ...] | None:
    recording = utterance.recording
    key = recordings.named(recording) if recording is not None else None
    key = key if key is not None else recordings.beside(utterance.audio)
    if key is not None:
        return recordings.load(key).cut(utterance.offset, utterance.duration)
    key = recordings.named(utterance.utt_id)
    return None if key is None else recordings.load(key).segments


def _recordings(files: AlignmentFiles, tier: str) -> _Recordings:
    return _CtmRecordings(files) if files.format == "ctm" else _FileRecordings(files, tier)


class _FileRecordings:
    """One recording in each file."""

    def __init__(self, files: AlignmentFiles, tier: str) -> None:
        self._files, self._tier = files, tier
        self._by_path = {name.rpartition(".")[0]: name for name in files.sizes}
        self._by_name: dict[str, list[str]] = {}
        for path, name in self._by_path.items():
            self._by_name.setdefault(path.rpartition("/")[2], []).append(name)
        self.load = lru_cache(_CACHED_RECORDINGS)(self._load)

    @property
    def example(self) -> str:
        return next(iter(self._files.sizes))

    def named(self, name: str) -> str | None:
        files = self._by_name.get(name, [])
        if len(files) > 1:
            raise AlignmentError(f"several alignments of one name: {files[0]}, {files[1]}")
        return files[0] if files else None

    def beside(self, audio: str) -> str | None:
        # Complete paths only: TIMIT has an SA1.PHN for each speaker.
        return next((self._by_path[end] for end in _ends(audio) if end in self._by_path), None)

    def _load(self, key: str) -> RecordingAlignment:
        content = self._files.folder.read(key)
        phn = self._files.format == "phn"
        return RecordingAlignment.of(
            parse_phn(content) if phn else parse_textgrid(content, self._tier)
        )


class _CtmRecordings:
    """One recording for each name in the first column."""

    def __init__(self, files: AlignmentFiles) -> None:
        self._ctm = Ctm(files.opened())
        self.load = lru_cache(_CACHED_RECORDINGS)(
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
    """`a/b/c`, `b/c`, `c` for `a/b/c.wav`: ends of its path without extension, longest first."""
    folder, _, name = audio.rpartition("/")
    path = f"{folder}/{name.rpartition('.')[0] or name}".lstrip("/")
    while path:
        yield path
        path = path.partition("/")[2]
