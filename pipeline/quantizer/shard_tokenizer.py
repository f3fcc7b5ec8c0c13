"""Tokens of a corpus, shard by shard; what each worker of the tokenizing pool runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from pipeline import schema
from pipeline.artifacts import Artifact
from pipeline.data.audio import read_audio
from pipeline.data.utterance import Utterance
from pipeline.quantizer.tokenizer import UnitTokenizer

FOLDER = "tokens"


class ShardTokenizer:
    """Reads the tokenizer once, then turns shard after shard of utterances into tokens."""

    def __init__(self, trained: Artifact, output: Artifact, batch_seconds: float) -> None:
        with trained.read_folder("tokenizer") as folder:
            self._tokenizer = UnitTokenizer.from_pretrained(Path(folder))
        self._tokenizer.to("cuda" if torch.cuda.is_available() else "cpu")
        self._output = output
        self._batch_seconds = batch_seconds

    def __call__(self, name: str, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Write one shard; returns its name, rows and frames. A whole shard is kept."""
        if not self._output.exists(name):
            self._output.write_table(name, self._tokens(utterances))
        num_frames = self._output.read_table(name, columns=["num_frames"])["num_frames"]
        return {"name": name, "rows": len(num_frames), "frames": sum(num_frames.to_pylist())}

    def _tokens(self, utterances: Sequence[Utterance]) -> pa.Table:
        waveforms = [
            read_audio(u.audio, self._tokenizer.sample_rate_hz, u.offset, u.duration)
            for u in utterances
        ]
        units = self._tokenizer.encode(waveforms, self._batch_seconds)
        columns = {
            "utt_id": [utterance.utt_id for utterance in utterances],
            "split": [utterance.split for utterance in utterances],
            "units": [list(row) for row in units],
            "num_frames": [len(row) for row in units],
        }
        return pa.table(columns, schema=schema.TOKENS)
