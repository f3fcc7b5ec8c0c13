"""What a corpus consists of, as one hash, so that a changed corpus is prepared anew."""

import hashlib
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pipeline.audio.utterance import CorpusError
from pipeline.config import digest
from pipeline.config.corpus import (
    Corpus,
    KaldiCorpus,
    LhotseCorpus,
    LibrispeechCorpus,
    LjspeechCorpus,
    ManifestCorpus,
    SyntheticCorpus,
)
from pipeline.corpus.adapters import kaldi, lhotse, librispeech, ljspeech, manifest
from pipeline.corpus.alignment.lookup import list_alignments


def corpus_fingerprint(config: Corpus) -> str:
    """Hexadecimal hash of the corpus itself: reads no audio, so that planning stays quick.

    The bytes of its tables; names and sizes of the files that are found by listing folders; what
    its alignments consist of. Of a synthetic corpus, the synthesiser's version.

    Raises:
        CorpusError: the corpus is not there.
    """
    if isinstance(config, SyntheticCorpus):
        return _synthesiser()
    alignments = list_alignments(config)
    return digest([_recorded(config), alignments.fingerprint() if alignments else []])


def _recorded(
    config: ManifestCorpus | LibrispeechCorpus | LjspeechCorpus | KaldiCorpus | LhotseCorpus,
) -> Any:
    if isinstance(config, LibrispeechCorpus):
        return librispeech.list_splits(config)
    if isinstance(config, LjspeechCorpus):
        return [_hash(ljspeech.read_metadata(config)), ljspeech.list_wavs(config)]
    if isinstance(config, KaldiCorpus):
        return {
            split: {name: _hash(content) for name, content in tables.items()}
            for split, tables in kaldi.read_tables(config).items()
        }
    if isinstance(config, LhotseCorpus):
        return [_hash(lhotse.open_cuts(config, split)) for split in config.splits.names]
    return _hash(manifest.open_manifest(config.manifest))


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _synthesiser() -> str:
    try:
        return f"espeakng-loader {version('espeakng-loader')}"
    except PackageNotFoundError:
        raise CorpusError(
            "the synthetic corpus needs the package espeakng-loader: pip install espeakng-loader"
        ) from None
