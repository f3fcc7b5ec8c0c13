"""LJSpeech's own folder: `root/metadata.csv`, `id|text` or `id|text|normalised`, and `root/wavs/`.

The last column is the text. There are no splits; see `split_of`.
"""

import hashlib
from collections.abc import Iterator

from pipeline.audio.utterance import TO_THE_END, CorpusError, Reject, Utterance
from pipeline.config.corpus import LjspeechCorpus
from pipeline.corpus.alignment.lookup import Alignments
from pipeline.storage.folders import Folder

_METADATA = "metadata.csv"


def list_wavs(config: LjspeechCorpus) -> dict[str, int]:
    """The audio files' names with their sizes."""
    return Folder.at(config.root).files("wavs")


def read_metadata(config: LjspeechCorpus) -> bytes:
    """The table of texts.

    Raises:
        CorpusError: there is none.
    """
    root = Folder.at(config.root)
    if root.size(_METADATA) is None:
        raise CorpusError(f"'{config.root}' has no {_METADATA}: check corpus.root")
    return root.read(_METADATA)


def read_ljspeech(config: LjspeechCorpus, alignments: Alignments) -> Iterator[Utterance | Reject]:
    """Every row of the table, then audio that no row names.

    Raises:
        CorpusError: as `read_metadata`.
    """
    unnamed = set(list_wavs(config))
    for number, line in enumerate(read_metadata(config).splitlines(), start=1):
        if line.strip():
            found = _read_line(line, f"{_METADATA}:{number}", config)
            unnamed.discard(f"{found.utt_id}.wav")
            yield found if isinstance(found, Reject) else alignments.attach(found)
    for name in sorted(unnamed):
        reason = f"no transcript: no row of {_METADATA} names it"
        yield Reject(name.removesuffix(".wav"), f"wavs/{name}", reason)


def split_of(utt_id: str, config: LjspeechCorpus) -> str:
    """The split that an utterance's own hash falls into: of any N, about `share` x N."""
    hashed = hashlib.sha256(f"{config.seed}/{utt_id}".encode()).digest()
    place = int.from_bytes(hashed[:8]) / 2**64
    for split in (config.splits.valid, *config.splits.test):
        if place < config.shares[split]:
            return split
        place -= config.shares[split]
    return config.splits.train


def _read_line(line: bytes, source: str, config: LjspeechCorpus) -> Utterance | Reject:
    try:
        utt_id, *texts = line.decode("utf-8-sig").split("|")
    except UnicodeDecodeError:
        return Reject(None, source, "broken line: not UTF-8")
    if len(texts) not in {1, 2}:
        reason = f"broken line: {1 + len(texts)} columns instead of id|text|normalised"
        return Reject(utt_id, source, reason)
    audio = Folder.at(config.root).locate(f"wavs/{utt_id}.wav")
    split = split_of(utt_id, config)
    return Utterance(utt_id, split, audio, 0.0, TO_THE_END, config.speaker, texts[-1])
