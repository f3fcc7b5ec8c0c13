"""What a corpus consists of, as one hash, so that a changed corpus is prepared anew."""

import hashlib
from importlib.metadata import PackageNotFoundError, version

from pipeline.config import (
    Corpus,
    LibrispeechCorpus,
    ManifestCorpus,
    digest,
)
from pipeline.data.librispeech import list_alignments, list_splits
from pipeline.data.manifest import open_manifest
from pipeline.data.utterance import CorpusError


def fingerprint(config: Corpus) -> str:
    """Hexadecimal hash of the corpus itself: reads no audio, so that planning stays quick.

    A manifest's bytes; LibriSpeech's file names and sizes; the synthesiser's version.

    Raises:
        CorpusError: the corpus is not there.
    """
    if isinstance(config, ManifestCorpus):
        return hashlib.sha256(open_manifest(config.manifest)).hexdigest()
    if isinstance(config, LibrispeechCorpus):
        return digest([list_splits(config), list_alignments(config)])
    try:
        return f"espeakng-loader {version('espeakng-loader')}"
    except PackageNotFoundError:
        raise CorpusError(
            "the synthetic corpus needs the package espeakng-loader: pip install espeakng-loader"
        ) from None
