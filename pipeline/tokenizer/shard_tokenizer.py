"""Tokens of utterances, shard by shard: the work of each worker of the tokenizing pool."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from pipeline.audio.audio_files import read_whole
from pipeline.audio.decode import AudioError, read_utterance
from pipeline.audio.utterance import Reject, Utterance
from pipeline.corpus.shard_store import Record, ShardStore
from pipeline.features.inference import Compile, decoding_threads
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.feature_mixer import read_settings
from pipeline.tokenizer.identity import TOKENIZER, tokenizer_digest
from pipeline.tokenizer.unit_tokenizer import MODEL_TYPE, UnitTokenizer

# In a shard and its record: why utterances have no row, by utt_id.
REJECTS = "rejects"


class ShardTokenizer:
    """Reads the tokenizer once, then turns shard after shard of utterances into tokens.

    May be called from several threads: one at a time uses the model, while others decode or write.

    Args:
        trained: the output that holds the tokenizer, in its folder `name`.
        output: where shards go.
        batch_seconds: see `FeatureMixer.encode`.
        checked: whether all utterances are known to decode, as those of a prepared corpus are. Then
            one that does not is an error; otherwise it has no row, and the shard says why.
        compiling: see `features.compile`.
    """

    def __init__(
        self,
        trained: Artifact,
        output: Artifact,
        batch_seconds: float | None = None,
        name: str = "tokenizer",
        *,
        checked: bool = True,
        compiling: Compile = "auto",
    ) -> None:
        with trained.read_folder(name) as folder:
            self._tokenizer = UnitTokenizer.from_pretrained(folder)
            self._store = ShardStore(output, made_from(folder))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer.place(device, compiling)
        self._decoders = ThreadPoolExecutor(decoding_threads(device), thread_name_prefix="decode")
        self._batch_seconds = batch_seconds
        self._checked = checked
        self._turn = Lock()

    def __call__(self, name: str, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Write one shard; returns its name, rows, frames and bytes. A complete shard is kept."""
        return self._store.keep_or_write(name, utterances, self._tokens)

    def _tokens(self, utterances: Sequence[Utterance]) -> pa.Table:
        heard, waveforms, rejects = self._hear(utterances)
        with self._turn:
            started = self._tokenizer.start(waveforms, self._batch_seconds)
        units = [wait() for wait in started]
        columns = {
            "utt_id": [utterance.utt_id for utterance in heard],
            "split": [utterance.split for utterance in heard],
            "units": [list(row) for row in units],
            "num_frames": [len(row) for row in units],
        }
        return _with_rejects(pa.table(columns, schema=table_schemas.TOKENS), rejects)

    def _hear(
        self, utterances: Sequence[Utterance]
    ) -> tuple[list[Utterance], list[np.ndarray], dict[str, str]]:
        """The usable utterances, their waveforms (num_samples,), and why others are unusable."""
        grid = self._tokenizer.mixer.ssl.grid
        if self._checked:
            read = partial(read_utterance, sample_rate_hz=grid.sample_rate_hz)
            return list(utterances), list(self._decoders.map(read, utterances)), {}
        heard, waveforms, rejects = [], [], {}
        for utterance in utterances:
            try:
                waveforms.append(read_whole(utterance.audio, grid))
                heard.append(utterance)
            except AudioError as error:
                rejects[utterance.utt_id] = str(error)
        return heard, waveforms, rejects


def made_from(folder: Path) -> Record:
    """What shards of the tokenizer in `folder` are made from.

    Raises:
        ValueError: the folder holds something else.
    """
    read_settings(folder, MODEL_TYPE)
    return {TOKENIZER: tokenizer_digest(folder), "dtype": "uint16"}


def rejects_of(record: Record, utterances: Sequence[Utterance]) -> list[Reject]:
    """The utterances of a shard that have no row, with the reasons that its record gives."""
    reasons = json.loads(record.get(REJECTS, "{}"))
    audio = {utterance.utt_id: utterance.audio for utterance in utterances}
    return [Reject(utt_id, audio[utt_id], reason) for utt_id, reason in reasons.items()]


def keep_rows(
    store: ShardStore, name: str, before: Sequence[Utterance], kept: Sequence[Utterance]
) -> None:
    """Rewrite a shard with the rows of `kept` alone, without computing them again.

    A shard that is not complete, or not intact, has no record afterwards, so that it is computed; one
    of which nothing is kept is deleted.
    """
    output = store.output
    if kept and store.complete(name, kept):
        return
    record = store.complete(name, before) if kept else None
    table = _intact_table(output, name, record) if record else None
    if record is None or table is None:
        output.delete_record(name)
        output.delete(name)
        return
    ids = [utterance.utt_id for utterance in kept]
    rows = table.filter(pc.is_in(table["utt_id"], pa.array(ids)))
    reasons = json.loads(record.get(REJECTS, "{}"))
    rejects = {utt_id: reasons[utt_id] for utt_id in ids if utt_id in reasons}
    store.write(name, kept, _with_rejects(rows.replace_schema_metadata(None), rejects))


def _intact_table(output: Artifact, name: str, record: Record) -> pa.Table | None:
    with output.read(name) as file:
        content = file.read()
    intact = hashlib.sha256(content).hexdigest() == record["sha256"]
    return pq.read_table(pa.BufferReader(content)) if intact else None


def _with_rejects(table: pa.Table, rejects: dict[str, str]) -> pa.Table:
    return table.replace_schema_metadata({REJECTS: json.dumps(rejects)}) if rejects else table
