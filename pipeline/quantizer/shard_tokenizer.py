"""Tokens of a corpus, shard by shard; what each worker of the tokenizing pool runs."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import pyarrow as pa
import torch

from pipeline import schema
from pipeline.artifacts import Artifact
from pipeline.data.audio import read_utterance
from pipeline.data.shard_store import ShardStore
from pipeline.data.utterance import Utterance
from pipeline.features.fingerprint import hash_files
from pipeline.quantizer.tokenizer import UnitTokenizer

FOLDER = "tokens"


class ShardTokenizer:
    """Reads the tokenizer once, then turns shard after shard of utterances into tokens.

    May be called from several threads: one shard at a time has the model, while others are decoded
    or written.
    """

    def __init__(self, trained: Artifact, output: Artifact, batch_seconds: float) -> None:
        with trained.read_folder("tokenizer") as folder:
            self._tokenizer = UnitTokenizer.from_pretrained(folder)
            files = [path for path in folder.rglob("*") if path.is_file()]
            made_from = {"tokenizer": hash_files(folder, files), "dtype": "uint16"}
        self._tokenizer.to("cuda" if torch.cuda.is_available() else "cpu")
        self._store = ShardStore(output, made_from)
        self._batch_seconds = batch_seconds
        self._turn = Lock()

    def __call__(self, name: str, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Write one shard; returns its name, rows, frames and bytes. A whole shard is kept."""
        return self._store.keep_or_write(name, utterances, self._tokens)

    def _tokens(self, utterances: Sequence[Utterance]) -> pa.Table:
        rate = self._tokenizer.sample_rate_hz
        waveforms = [read_utterance(utterance, rate) for utterance in utterances]
        with self._turn:
            units = self._tokenizer.encode(waveforms, self._batch_seconds)
        columns = {
            "utt_id": [utterance.utt_id for utterance in utterances],
            "split": [utterance.split for utterance in utterances],
            "units": [list(row) for row in units],
            "num_frames": [len(row) for row in units],
        }
        return pa.table(columns, schema=schema.TOKENS)
