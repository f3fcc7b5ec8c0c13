"""LibriSpeech's own folders: `root/<split>/<speaker>/<chapter>/*.flac` with `.trans.txt`.

The audio may be of any other format too. Published alignments are in folders of the same structure:
`<split>/<speaker>/<chapter>/<utt_id>.TextGrid`.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Utterance
from pipeline.config.corpus import RecordedCorpus
from pipeline.config.section import Address
from pipeline.corpus.audio_names import audio_by_stem, is_shadow
from pipeline.corpus.recorded import RecordedAdapter
from pipeline.corpus.root import corpus_root
from pipeline.corpus.text_table import TableRow, TextTable
from pipeline.storage.folders import CANNOT_BE_READ, FileInfo, Folder, Listing, is_uri

_EXTENSION = "flac"
_TRANSCRIPT = ".trans.txt"
# There is a transcript for each chapter, and a bucket takes its time for each.
_READERS = 16


class LibrispeechCorpus(RecordedCorpus):
    """LibriSpeech's own folders: `root/<split>/<speaker>/<chapter>/*.flac` with `.trans.txt`."""

    kind: Literal["librispeech"] = "librispeech"
    root: Address
    """The folder that holds `train-clean-100`, `dev-clean` and so on."""


def list_splits(config: LibrispeechCorpus) -> dict[str, Listing]:
    """What is in the folder of each split that the config names.

    Raises:
        CorpusError: the root does not exist, or lacks one of the splits.
    """
    root = corpus_root(config.root)
    present = root.folders()
    missing = [split for split in config.splits.names if split not in present]
    if missing:
        raise CorpusError(
            f"'{config.root}' has no folder for {missing}; it has {present or 'none'}: check "
            "corpus.root and corpus.splits"
        )
    return {split: root.listing(split) for split in config.splits.names}


def read_contents(config: LibrispeechCorpus) -> dict[str, dict[str, bytes | str | None]]:
    """Each split's files with sizes and versions, transcripts with their content."""
    root = Folder.at(config.root)

    def content(path: str, info: FileInfo) -> bytes | str | None:
        if not _is_transcript(path):
            return str(info)
        # In a bucket there are as many requests as files, and the ETag says as much.
        return info.version if is_uri(root.uri) else root.try_read(path)

    return {
        split: {name: content(f"{split}/{name}", info) for name, info in listing.files.items()}
        for split, listing in list_splits(config).items()
    }


def read_librispeech(config: LibrispeechCorpus) -> Iterator[Utterance | Reject]:
    """Every line of the transcripts, then a reject for whatever no line names."""
    root = Folder.at(config.root)
    for split, listing in list_splits(config).items():
        yield from _read_split(split, Folder(root.address(split)), listing)


def _read_split(split: str, folder: Folder, listing: Listing) -> Iterator[Utterance | Reject]:
    unusable = dict(listing.unusable)
    audio = audio_by_stem([*listing.files, *unusable], _EXTENSION)
    unnamed = dict(audio)
    transcripts = [name for name in listing.files if _is_transcript(name)]
    with ThreadPoolExecutor(_READERS) as pool:
        contents = list(pool.map(folder.try_read, transcripts))
    for name, content in zip(transcripts, contents, strict=True):
        if content is None:
            unusable[name] = CANNOT_BE_READ
            continue
        table = TextTable(content, f"{split}/{name}")
        yield from table.rejects
        for utt_id, row in table.rows.items():
            stem = f"{name[: name.rfind('/') + 1]}{utt_id}"
            unnamed.pop(stem, None)
            yield _utterance(utt_id, row, split, folder, audio.get(stem))
    for stem, name in sorted(unnamed.items()):
        reason = unusable.get(name, f"no transcript: no {_TRANSCRIPT} names it")
        yield Reject(stem.rpartition("/")[2], folder.address(name), reason)
    for name in sorted(unusable.keys() - set(audio.values())):
        yield Reject(None, folder.address(name), unusable[name])


def _is_transcript(name: str) -> bool:
    return name.lower().endswith(_TRANSCRIPT) and not is_shadow(name)


def _utterance(
    utt_id: str, row: TableRow, split: str, folder: Folder, audio: str | None
) -> Utterance | Reject:
    """What a line of a transcript stands for; `audio` is a name below `folder`."""
    if audio is None:
        reason = f"no audio: there is no {utt_id}.{_EXTENSION} beside the transcript"
        return Reject(utt_id, row.source, reason)
    speaker, below, _ = audio.partition("/")
    if not below:
        return Reject(utt_id, row.source, "no speaker: it is not in a folder <speaker>/<chapter>")
    return Utterance(utt_id, split, folder.address(audio), 0.0, TO_THE_END, speaker, text=row.value)


ADAPTER = RecordedAdapter(
    section=LibrispeechCorpus,
    entries=read_librispeech,
    contents=read_contents,
    path_keys=("root",),
    lists_audio=True,
)
