"""Alignments in files of their own, and which of them belongs to which utterance.

The name of a TextGrid or .PHN file is its path below the folder, without the extension; the name of
a CTM line is its first column. If it is the name of a recording, times count from the recording's
start; if it is the name of an utterance, from the utterance's. A name that is both is the
recording's.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from pipeline.audio.utterance import AlignmentError, CorpusError, Reject, Segment, Utterance
from pipeline.config.corpus import AlignmentFormat, RecordedCorpus
from pipeline.corpus.alignment.ctm import Ctm
from pipeline.corpus.alignment.phn import parse_phn
from pipeline.corpus.alignment.recording_alignment import RecordingAlignment
from pipeline.corpus.alignment.textgrid import parse_textgrid
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import CANNOT_BE_READ, FileInfo, Folder, Listing
from pipeline.storage.text_digests import text_digests

_FORMATS: dict[str, AlignmentFormat] = {"textgrid": "textgrid", "ctm": "ctm", "phn": "phn"}

# Utterances of one recording mostly follow each other.
_CACHED_RECORDINGS = 16


@dataclass(frozen=True)
class AlignmentFiles:
    """The files of one format below a folder, by relative name, and what is unusable there."""

    folder: Folder
    format: AlignmentFormat
    infos: dict[str, FileInfo]
    unusable: dict[str, str] = field(default_factory=dict)

    def digests(self, cache: Artifact) -> dict[str, str]:
        """What each file contains."""
        return text_digests(self.folder, self.infos, cache)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            AlignmentError: it cannot be read.
        """
        content = self.folder.try_read(name)
        if content is None:
            raise AlignmentError(CANNOT_BE_READ)
        return content

    def rejects(self) -> Iterator[Reject]:
        """What is unusable."""
        for name, reason in sorted(self.unusable.items()):
            yield Reject(None, self.folder.address(name), reason, "alignment")


def list_alignments(config: RecordedCorpus) -> AlignmentFiles | None:
    """The files that the config's `alignments` names, a folder or a file; None without that key.

    Raises:
        CorpusError: there are no files of a known format, or files of several formats.
    """
    if config.alignments is None:
        return None
    chosen = config.alignment_format
    folder, name = Folder.around(config.alignments)
    info = folder.info(name)
    if info is not None:
        listing, formats = Listing({name: info}), {name: chosen or _format_of(name)}
    else:
        folder = Folder.at(config.alignments)
        listing = folder.listing()
        formats = {name: _format_of(name) for name in listing.files}
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
    kept = {name: info for name, info in listing.files.items() if formats[name] == kind}
    return AlignmentFiles(folder, kind, kept, listing.unusable)


def _format_of(name: str) -> AlignmentFormat | None:
    return _FORMATS.get(name.rpartition(".")[2].lower())


class Alignments:
    """Finds each utterance's alignment in the files that the config's `alignments` names."""

    def __init__(self, config: RecordedCorpus) -> None:
        """List the files; CTM files are read at once.

        Raises:
            CorpusError: as `list_alignments`.
        """
        self._files = list_alignments(config)
        self._source = config.alignments
        self._recordings = _recordings(self._files, config) if self._files else None
        self._unmatched: Utterance | None = None
        self._matched_any = False

    def attach(self, utterance: Utterance) -> Iterator[Utterance | Reject]:
        """The utterance with its alignment; one that it already has takes precedence.

        Unchanged if it has no alignment; unchanged and with a reject if that cannot be used.
        """
        if self._recordings is None or utterance.alignment is not None:
            yield utterance
            return
        try:
            aligned = self._recordings.align(utterance)
        except AlignmentError as error:
            self._matched_any = True
            yield Reject(utterance.utt_id, utterance.audio, str(error), "alignment")
            yield utterance
            return
        if aligned.alignment is None:
            self._unmatched = utterance
        else:
            self._matched_any = True
        yield aligned

    def rejects(self) -> Iterator[Reject]:
        """What is unusable among the files, whichever utterance it may belong to."""
        if self._files is not None:
            yield from self._files.rejects()

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


class _Recordings:
    """Alignments by key: a file's name, or the first column of a CTM file."""

    def __init__(
        self,
        paths: Mapping[str, str],
        parse: Callable[[str, tuple[str, ...]], Iterable[Segment]],
        tiers: Callable[[Utterance], tuple[str, ...]],
    ) -> None:
        """Take each key's path without extension, what reads a key's tier, and its names."""
        self.example = next(iter(paths), "")
        self._by_path: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for key, path in paths.items():
            self._by_path.setdefault(path, []).append(key)
            self._by_name.setdefault(path.rpartition("/")[2], []).append(key)
        self._parse, self._tiers = parse, tiers
        self._cached = lru_cache(_CACHED_RECORDINGS)(self._read)

    def align(self, utterance: Utterance) -> Utterance:
        """With its part of its recording's alignment, or with an alignment of its own."""
        named = self._named(utterance.recording) if utterance.recording is not None else None
        if key := named or self._beside(utterance.audio):
            recording = self._load(key, utterance)
            part = recording.cut(utterance.offset, utterance.duration)
            return replace(utterance, alignment=part, extent=recording.extent)
        if key := self._named(utterance.utt_id):
            return replace(utterance, alignment=self._load(key, utterance).segments)
        return utterance

    def _named(self, name: str) -> str | None:
        return _only(self._by_name.get(name) or self._by_path.get(name, []))

    def _beside(self, audio: str) -> str | None:
        # Complete paths only: TIMIT has an SA1.PHN for each speaker.
        return next(
            (_only(self._by_path[end]) for end in _ends(audio) if end in self._by_path), None
        )

    def _load(self, key: str, utterance: Utterance) -> RecordingAlignment:
        return self._cached(key, self._tiers(utterance))

    def _read(self, key: str, tiers: tuple[str, ...]) -> RecordingAlignment:
        try:
            return RecordingAlignment.of(self._parse(key, tiers))
        except AlignmentError as error:
            raise AlignmentError(f"{error} ({key})") from None


def _only(keys: list[str]) -> str | None:
    if len(keys) > 1:
        raise AlignmentError(f"several alignments of one name: {keys[0]}, {keys[1]}")
    return keys[0] if keys else None


def _recordings(files: AlignmentFiles, config: RecordedCorpus) -> _Recordings:
    if files.format == "ctm":
        ctm = Ctm(_readable(files))
        paths = {name: name for name in ctm.names}
        return _Recordings(paths, lambda name, _: ctm.segments(name), lambda _: ())
    paths = {name: name.rpartition(".")[0] for name in files.infos}
    read, rate = files.read, config.alignment_sample_rate_hz
    if files.format == "phn":
        return _Recordings(paths, lambda name, _: parse_phn(read(name), name, rate), lambda _: ())
    return _Recordings(
        paths,
        lambda name, tiers: parse_textgrid(read(name), tiers),
        lambda utterance: config.tiers(utterance.speaker, utterance.utt_id),
    )


def _readable(files: AlignmentFiles) -> Iterator[tuple[str, bytes]]:
    """Each file's name and content; others join those that are unusable."""
    for name in files.infos:
        try:
            yield name, files.read(name)
        except AlignmentError as error:
            files.unusable[name] = str(error)


def _ends(audio: str) -> Iterator[str]:
    """`a/b/c`, `b/c`, `c` for `a/b/c.wav`: ends of its path without extension, longest first."""
    folder, _, name = audio.rpartition("/")
    path = f"{folder}/{name.rpartition('.')[0] or name}".lstrip("/")
    while path:
        yield path
        path = path.partition("/")[2]
