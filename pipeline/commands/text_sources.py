"""Texts that a user names, for a language model: of prepared corpora, or of plain files."""

from collections.abc import Sequence

from pipeline.config import ConfigError
from pipeline.corpus.read_outputs import read_split
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder

CORPUS = "corpus.parquet"


def sentences_of(uris: Sequence[str], split: str) -> list[str]:
    """The sentences of outputs of prepare_corpus (one split), and of files with one on each line.

    Raises:
        ConfigError: one is neither, or there is no sentence in any.
    """
    texts = [text for uri in uris for text in _texts(uri, split) if text.strip()]
    if not texts:
        raise ConfigError(
            f"there is no sentence in {', '.join(uris)}: name files with a sentence on each line, or "
            f"outputs of prepare_corpus with texts in the split '{split}'"
        )
    return texts


def _texts(uri: str, split: str) -> list[str]:
    corpus = Artifact(Folder.at(uri).uri)
    if corpus.exists(CORPUS):
        return [utterance.text for utterance in read_split(corpus, split)]
    folder, name = Folder.around(uri)
    try:
        return folder.read(name).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{uri} is neither an output of prepare_corpus nor a text file in UTF-8 ({error})"
        ) from None
