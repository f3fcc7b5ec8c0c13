"""Which tokenizer units belong to: its digest, in token files' metadata and in a vocoder's config.

Two codebooks give the same numbers to different sounds, so units make sense with their own
tokenizer's models only. Imports no PyTorch.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.features.fingerprint import PATTERNS, hash_files
from pipeline.storage.artifacts import Artifact

TOKENIZER = "tokenizer"  # the key in a token file's metadata, in its record and in a listing's
DEDUPLICATED = "deduplicated"  # likewise, with the value "true", where runs of a unit are one unit


def tokenizer_digest(folder: Path) -> str:
    """SHA-256 over configs and weights of a saved tokenizer; other files beside them do not count."""
    return hash_files(folder, {path for pattern in PATTERNS for path in folder.rglob(pattern)})


def tokenizer_of_schema(schema: pa.Schema) -> str | None:
    """The digest of the tokenizer that wrote a token file; None if the file does not say."""
    digest = (schema.metadata or {}).get(TOKENIZER.encode())
    return None if digest is None else digest.decode(errors="replace")


def is_deduplicated(schema: pa.Schema) -> bool:
    """Whether a token file has a unit for each run of frames, instead of one for each frame."""
    return (schema.metadata or {}).get(DEDUPLICATED.encode()) == b"true"


def tokenizer_of_shards(output: Artifact, folder: str) -> str | None:
    """The digest of the tokenizer whose shards lie in `folder` of `output`: all have the same."""
    for name in output.names(folder):
        with output.read(name) as file:
            return tokenizer_of_schema(pq.read_schema(file))
    return None
