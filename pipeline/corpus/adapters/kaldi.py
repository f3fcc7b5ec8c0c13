"""Kaldi data folders, one for each split: wav.scp, text, utt2spk and optionally segments.

Only audio files are read: commands in wav.scp are never executed, and archives are not opened.
"""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Utterance
from pipeline.config.corpus import SpeakersHeldOut
from pipeline.config.section import Address
from pipeline.corpus.held_out import splits_by_speaker
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.corpus.root import corpus_root
from pipeline.corpus.text_table import TextTable, fields, read_text
from pipeline.storage.folders import Folder

_REQUIRED = ("wav.scp", "text", "utt2spk")
_OPTIONAL = ("segments",)
_ARCHIVE = re.compile(r"\.ark(:\d+)?$|:\d+$")


class KaldiCorpus(SpeakersHeldOut):
    """Kaldi data folders: `root/<split>/` with wav.scp, text, utt2spk and optionally segments.

    A split that `held_out` names has no folder: its speakers are in those of the other splits.
    """

    kind: Literal["kaldi"] = "kaldi"
    root: Address
    """The folder of data folders, one for each split."""
    audio_root: Address = "."
    """The folder that relative paths in wav.scp start from: where the recipe was run."""

    @property
    def folders(self) -> tuple[str, ...]:
        """The splits that have a data folder."""
        return tuple(split for split in self.splits.names if split not in self.held_out)


def read_tables(config: KaldiCorpus) -> dict[str, dict[str, bytes]]:
    """The files of each data folder, by name.

    Raises:
        CorpusError: a split's folder or one of its files does not exist, or cannot be read.
    """
    root = corpus_root(config.root)
    tables: dict[str, dict[str, bytes]] = {}
    for split in config.folders:
        present = {
            name for name in (*_REQUIRED, *_OPTIONAL) if root.info(f"{split}/{name}") is not None
        }
        missing = [name for name in _REQUIRED if name not in present]
        if missing:
            raise CorpusError(
                f"'{config.root}/{split}' has no {', '.join(missing)}; the folders of "
                f"'{config.root}' are {root.folders() or 'none'}: check corpus.root and "
                "corpus.splits"
            )
        tables[split] = {
            name: read_text(root, f"{split}/{name}", f"'{config.root}/{split}' has no {name}")
            for name in sorted(present)
        }
    return tables


def read_kaldi(config: KaldiCorpus) -> Iterator[Utterance | Reject]:
    """Every utterance that any file of a data folder names, sorted by id.

    Raises:
        CorpusError: a table cannot be read, or `held_out` names a speaker whom no folder has.
    """
    audio_root, tables = Folder.at(config.audio_root), read_tables(config)
    folders = [_DataFolder(split, files, audio_root) for split, files in tables.items()]
    speakers = (speaker for folder in folders for speaker in folder.speakers())
    where = f"the folders that corpus.splits names in '{config.root}', {', '.join(tables)}, have"
    held_out = splits_by_speaker(config, speakers, where)
    for folder in folders:
        yield from folder.broken_lines()
        yield from folder.utterances(held_out)


class _DataFolder:
    """The tables of one split."""

    def __init__(self, split: str, files: dict[str, bytes], audio_root: Folder) -> None:
        self._split, self._audio_root = split, audio_root
        self._tables = {
            name: TextTable(content, f"{split}/{name}") for name, content in files.items()
        }

    def broken_lines(self) -> Iterator[Reject]:
        """Lines without an id or with a repeated one, and recordings that are not used."""
        for table in self._tables.values():
            yield from table.rejects
        if "segments" in self._tables:
            rows = self._tables["segments"].rows.values()
            used = {recording for row in rows for recording in fields(row.value)[:1]}
            for recording in sorted(self._tables["wav.scp"].rows.keys() - used):
                reason = "unused recording: no line of segments names it"
                yield Reject(recording, f"{self._split}/wav.scp", reason)

    def speakers(self) -> Iterator[str]:
        """The speaker of each utterance."""
        return (row.value for row in self._tables["utt2spk"].rows.values())

    def utterances(self, held_out: Mapping[str, str]) -> Iterator[Utterance | Reject]:
        """Every id in segments (or wav.scp, if there is no segments), text or utt2spk."""
        cut = "segments" if "segments" in self._tables else "wav.scp"
        named = (self._tables[name].rows for name in (cut, "text", "utt2spk"))
        for utt_id in sorted(set().union(*named)):
            try:
                yield self._utterance(utt_id, held_out)
            except UnusableError as error:
                yield Reject(utt_id, f"{self._split}/{cut}", str(error))

    def _utterance(self, utt_id: str, held_out: Mapping[str, str]) -> Utterance:
        if "segments" in self._tables:
            row = self._value("segments", utt_id, "no audio: segments does not name it")
            recording, offset, duration = _parse_segment(row)
        else:
            recording, offset, duration = utt_id, 0.0, TO_THE_END
        audio = self._audio(recording)
        text = self._value("text", utt_id, "no transcript: text does not name it")
        speaker = self._value("utt2spk", utt_id, "no speaker: utt2spk does not name it")
        split = held_out.get(speaker, self._split)
        return Utterance(utt_id, split, audio, offset, duration, speaker, text, recording=recording)

    def _audio(self, recording: str) -> str:
        path = self._value("wav.scp", recording, f"no audio: wav.scp has no '{recording}'")
        if path.endswith("|") or path.startswith("|"):
            raise UnusableError(
                f"wav.scp names a command, and commands in data are never executed: {path} "
                "(write its output to a file, and name that)"
            )
        if _ARCHIVE.search(path):
            raise UnusableError(
                f"wav.scp names an archive, which is not supported: {path} (write its audio to "
                "files, and name those)"
            )
        if path in {"", "-"}:
            raise UnusableError(f"wav.scp names no file: '{recording} {path}'")
        return self._audio_root.locate(path)

    def _value(self, table: str, key: str, reason: str) -> str:
        try:
            return self._tables[table].rows[key].value
        except KeyError:
            raise UnusableError(reason) from None


def _parse_segment(row: str) -> tuple[str, float, float]:
    """Recording, offset and duration of a line `recording start end`; -1 is the file's end."""
    parts = fields(row)
    if len(parts) == 4:
        raise UnusableError(
            "segments names a channel, but channels are averaged: write each to a file of its own"
        )
    try:
        recording, first, last = parts
        start, end = float(first), float(last)
    except ValueError:
        raise UnusableError(f"segments has no `recording start end`: '{row}'") from None
    end = math.inf if end == -1 else end
    if not 0 <= start < end:
        raise UnusableError(f"segments has a negative start, or an end before it: '{row}'")
    return recording, start, end - start


ADAPTER = RecordedAdapter(
    section=KaldiCorpus,
    entries=read_kaldi,
    contents=read_tables,
    path_keys=("root", "audio_root"),
)
