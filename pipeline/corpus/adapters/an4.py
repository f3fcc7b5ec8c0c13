"""CMU AN4's own folders: `etc/an4_{train,test}.fileids` and `.transcription`, audio below `wav/`.

A line of `.fileids` is a path below `wav/` without its extension, in a folder named after the
speaker: `an4_clstk/fash/an251-fash-b`. Its text is in the line `<s> YES </s> (an251-fash-b)` of
`.transcription`, in `test` without the marks.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import TO_THE_END, Reject, Utterance
from pipeline.config.corpus import SpeakersHeldOut
from pipeline.config.section import Address, Name, Text
from pipeline.corpus.audio_names import audio_by_stem
from pipeline.corpus.held_out import splits_by_speaker
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.corpus.root import corpus_root
from pipeline.corpus.text_table import BLANKS, TableRow, TextTable, fields, read_text
from pipeline.storage.folders import Folder

_OWN_SPLITS = ("train", "test")
_EXTENSION = "sph"
_RAW = "raw"


class An4Corpus(SpeakersHeldOut):
    """CMU AN4's own folders: `root/etc/` with lists and transcripts, `root/wav/` with the audio.

    Its own splits are `train` and `test`; `held_out` makes others, so that all speakers of such a
    split are unheard. The `utt_id` of `an251-fash-b` is `fash-an251-b`, as Kaldi and ESPnet have it.
    """

    kind: Literal["an4"] = "an4"
    root: Address
    """The folder that holds `etc/` and `wav/`."""
    held_out: dict[Name, tuple[Text, ...]] = Field(
        default={"valid": ("ftal", "ftmj", "fwxs", "mtcv", "mtje", "mtos", "mtxj", "mwhw")}
    )
    """The speakers of each further split, who are taken out of `train` and `test`."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if own := sorted(self.held_out.keys() & set(_OWN_SPLITS)):
            raise ValueError(f"held_out may not name {own}, which are AN4's own splits")
        if unknown := sorted(set(self.splits.names) - {*_OWN_SPLITS, *self.held_out}):
            raise ValueError(
                f"splits names {unknown}, but AN4 has {list(_OWN_SPLITS)}: name the speakers of any "
                "other split in held_out"
            )
        return self


def read_tables(config: An4Corpus) -> dict[str, bytes]:
    """The lists and transcripts of both splits, by name.

    Raises:
        CorpusError: one does not exist, or it cannot be read.
    """
    root = corpus_root(config.root)
    names = [name for split in _OWN_SPLITS for name in _table_names(split)]
    return {
        name: read_text(root, name, f"'{config.root}' has no {name}: check corpus.root")
        for name in names
    }


def read_contents(config: An4Corpus) -> tuple[dict[str, bytes], dict[str, str]]:
    """The lists and transcripts, and the audio files with sizes and versions."""
    files = Folder.at(config.root).listing("wav").files
    return read_tables(config), {name: str(info) for name, info in files.items()}


def read_an4(config: An4Corpus) -> Iterator[Utterance | Reject]:
    """Every line of the lists, then a reject for whatever no list names.

    Raises:
        CorpusError: a table cannot be read, or the lists lack a speaker whom `held_out` names.
    """
    contents, recordings = read_tables(config), _Recordings(Folder.at(config.root))
    splits = {split: _Split(split, contents) for split in _OWN_SPLITS}
    speakers = (_speaker(path) for split in splits.values() for path in split.listed.rows)
    held_out = splits_by_speaker(config, speakers, f"the lists in '{config.root}/etc' have")
    for split in splits.values():
        yield from split.entries(recordings, held_out)
    yield from recordings.rejects()


class _Recordings:
    """The audio below `wav/`, by its path without extension."""

    def __init__(self, root: Folder) -> None:
        self._wav, self._listing = Folder(root.address("wav")), root.listing("wav")
        self._names = audio_by_stem([*self._listing.files, *self._listing.unusable], _EXTENSION)
        self._unnamed = dict(self._names)

    def find(self, path: str) -> str:
        """The address of a recording.

        Raises:
            UnusableError: there is none, or it has no header.
        """
        if path in self._names:
            self._unnamed.pop(path, None)
            return self._wav.address(self._names[path])
        if f"{path}.{_RAW}" in self._listing.files:
            raise UnusableError(
                f"raw samples: wav/{path}.{_RAW} has no header that says what they are; take AN4 as "
                "SPHERE or WAV, or convert each file: sox -t raw -r 16000 -e signed-integer -b 16 "
                f"-c 1 -B x.{_RAW} x.wav (-L instead of -B where they are little-endian)"
            )
        raise UnusableError(f"no audio: there is no wav/{path}.{_EXTENSION}")

    def rejects(self) -> Iterator[Reject]:
        """What nobody has asked for, and what is unusable."""
        unusable, unnamed = self._listing.unusable, "no transcript: no list in etc/ names it"
        for path, name in sorted(self._unnamed.items()):
            yield Reject(_utt_id(path), self._wav.address(name), unusable.get(name, unnamed))
        for name in sorted(unusable.keys() - set(self._names.values())):
            yield Reject(None, self._wav.address(name), unusable[name])


class _Split:
    """The list and the transcripts of one of AN4's own splits."""

    def __init__(self, name: str, contents: Mapping[str, bytes]) -> None:
        self._name = name
        self._list_name, texts_name = _table_names(name)
        self.listed = TextTable(contents[self._list_name], self._list_name)
        self._texts = TextTable(contents[texts_name], texts_name, _id_last)

    def entries(
        self, recordings: _Recordings, held_out: Mapping[str, str]
    ) -> Iterator[Utterance | Reject]:
        """Every line of the list, then every transcript that is left."""
        yield from (*self.listed.rejects, *self._texts.rejects)
        texts = dict(self._texts.rows)
        for path, row in self.listed.rows.items():
            text = texts.pop(path.rpartition("/")[2], None)
            split = held_out.get(_speaker(path), self._name)
            try:
                yield _utterance(path, row, split, text, recordings.find(path))
            except UnusableError as error:
                yield Reject(_utt_id(path), row.source, str(error))
        for name, row in texts.items():
            yield Reject(name, row.source, f"no audio: no line of {self._list_name} names it")


def _utterance(
    path: str, row: TableRow, split: str, text: TableRow | None, audio: str
) -> Utterance:
    """What a line of a list stands for."""
    if row.value:
        raise UnusableError(f"broken line: '{row.value}' follows the path")
    if not _speaker(path):
        raise UnusableError("no speaker: it is not in a folder <speaker>/")
    if text is None:
        raise UnusableError("no transcript: no line of the transcripts ends in its name")
    return Utterance(
        _utt_id(path), split, audio, 0.0, TO_THE_END, _speaker(path), text.value,
        recording=path.rpartition("/")[2],
    )  # fmt: skip


def _id_last(line: str) -> tuple[str, str]:
    """Id and text of a line `<s> TEXT </s> (id)`, whose marks may be missing."""
    *words, last = fields(line)
    name = last.removeprefix("(").removesuffix(")")
    if last != f"({name})" or not name:
        raise UnusableError("it does not end in an id in parentheses")
    return name, " ".join(words).removeprefix("<s>").removesuffix("</s>").strip(BLANKS)


def _table_names(split: str) -> tuple[str, str]:
    return f"etc/an4_{split}.fileids", f"etc/an4_{split}.transcription"


def _speaker(path: str) -> str:
    """The folder that holds a recording; empty for one in none."""
    return path.rpartition("/")[0].rpartition("/")[2]


def _utt_id(path: str) -> str:
    """`fash-an251-b` for `an4_clstk/fash/an251-fash-b`."""
    speaker, name = _speaker(path), path.rpartition("/")[2]
    return f"{speaker}-{name.replace(f'-{speaker}-', '-', 1)}" if speaker else name


ADAPTER = RecordedAdapter(
    section=An4Corpus,
    entries=read_an4,
    contents=read_contents,
    path_keys=("root",),
    lists_audio=True,
)
