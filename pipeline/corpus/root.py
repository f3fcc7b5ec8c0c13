"""The folder of a corpus, as `corpus.root` names it."""

from pipeline.audio.utterance import CorpusError
from pipeline.storage.folders import Folder, is_uri


def corpus_root(root: str) -> Folder:
    """The folder; one on an object store is there as far as there are files below it.

    Raises:
        CorpusError: a local path at which there is no folder.
    """
    folder = Folder.at(root)
    if not is_uri(folder.uri) and not folder.is_folder():
        here = f" ({folder.uri})" * (folder.uri != root)
        raise CorpusError(
            f"there is no folder '{root}'{here}, where corpus.root says that the corpus is: correct it "
            "in the config, or give --set corpus.root=<folder>"
        )
    return folder
