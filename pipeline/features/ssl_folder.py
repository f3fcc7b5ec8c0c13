"""Where a config's SSL model lies: as it was pretrained, or where a training has left it."""

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.config import Ssl
from pipeline.storage.artifacts import Artifact


@contextmanager
def ssl_to_load(ssl: Ssl, finetuned: Artifact | None) -> Iterator[Ssl]:
    """A section that names the model to load; it may be a download that is deleted afterwards.

    `finetuned` is the output of the training that `ssl.finetuned_by` names, if it names one.

    Raises:
        ArtifactError: that output lacks the model.
    """
    if ssl.finetuned_by is None or finetuned is None:
        yield ssl
        return
    saved_in = "tokenizer" if ssl.finetuned_by.quantizer.has_units else "features"
    with finetuned.read_folder(f"{saved_in}/ssl") as folder:
        yield ssl.model_copy(update={"model": str(folder), "revision": None, "finetuned_by": None})
