"""Hidden states of a corpus, shard by shard; what each worker of the extraction pool runs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline import schema
from pipeline.artifacts import Artifact
from pipeline.config import Ssl
from pipeline.data.audio import AudioError, read_audio
from pipeline.data.utterance import Utterance
from pipeline.features.batching import length_batches
from pipeline.features.columns import frames_column
from pipeline.features.ssl import SslModel, pad_waveforms

FOLDER = "shards"
ROWS_PER_GROUP = 16  # small, since training reads utterances in an order of its own
DECODING_THREADS = 2


@dataclass(frozen=True)
class Shard:
    """Utterances of one split, and the name of the file that they go into."""

    name: str
    utterances: tuple[Utterance, ...]


class FeatureRangeError(ValueError):
    """Hidden states that float16 cannot hold."""


def plan_shards(
    utterances: Sequence[Utterance], shard_utterances: int, folder: str = FOLDER
) -> list[Shard]:
    """Cut each split, sorted by duration, into shards `<folder>/<split>-00000.parquet`.

    Similar lengths lie together, so that batches of a shard need little padding.
    """
    ordered = sorted(utterances, key=lambda one: (one.split, one.duration, one.utt_id))
    shards = []
    for split, group in groupby(ordered, key=lambda one: one.split):
        members = tuple(group)
        for number, first in enumerate(range(0, len(members), shard_utterances)):
            name = f"{folder}/{split}-{number:05d}.parquet"
            shards.append(Shard(name, members[first : first + shard_utterances]))
    return shards


class ShardWriter:
    """Loads the SSL model once, then turns shard after shard of utterances into Parquet."""

    def __init__(
        self, ssl: Ssl, output: Artifact, layers: tuple[int, ...], batch_seconds: float
    ) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = SslModel.from_pretrained(ssl.model, ssl.revision, max_layer=max(layers))
        self._model = model.to(self._device)
        self._output = output
        self._layers = layers
        self._batch_seconds = batch_seconds

    def __call__(self, name: str, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Write one shard; returns its name, rows, frames and bytes. A whole shard is kept.

        Raises:
            AudioError: an utterance cannot be decoded.
            FeatureRangeError: a hidden state is beyond float16.
        """
        if self._num_rows(name) != len(utterances):
            table = self._features(utterances)
            self._output.write_table(name, table, row_group_size=ROWS_PER_GROUP)
        num_frames = self._output.read_table(name, columns=["num_frames"])["num_frames"]
        return {
            "name": name,
            "rows": len(num_frames),
            "frames": sum(num_frames.to_pylist()),
            "bytes": self._output.filesystem.size(self._output.path(name)),
        }

    def _num_rows(self, name: str) -> int | None:
        if not self._output.exists(name):
            return None
        with self._output.read(name) as file:
            return int(pq.ParquetFile(file).metadata.num_rows)

    def _features(self, utterances: Sequence[Utterance]) -> pa.Table:
        hidden: list[np.ndarray] = [np.empty(0)] * len(utterances)
        seconds = [utterance.duration for utterance in utterances]
        batches = length_batches(seconds, self._batch_seconds)
        with ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode") as pool:
            # Decoding runs ahead of the model; a shard's audio is small enough to hold.
            decoded = [[pool.submit(self._read, utterances[i]) for i in batch] for batch in batches]
            for batch, futures in zip(batches, decoded, strict=True):
                frames = self._hidden_states([future.result() for future in futures])
                for index, frames_LTD in zip(batch, frames, strict=True):
                    _require_finite(frames_LTD, utterances[index].utt_id, self._layers)
                    hidden[index] = frames_LTD
        columns = {
            "utt_id": [utterance.utt_id for utterance in utterances],
            "split": [utterance.split for utterance in utterances],
            "num_frames": [frames_LTD.shape[1] for frames_LTD in hidden],
        }
        for place, layer in enumerate(self._layers):
            columns[schema.layer_column(layer)] = frames_column([one[place] for one in hidden])
        return pa.table(columns, schema=schema.features(self._layers))

    def _read(self, utterance: Utterance) -> np.ndarray:
        rate = self._model.grid.sample_rate_hz
        try:
            return read_audio(utterance.audio, rate, utterance.offset, utterance.duration)
        except AudioError as error:
            raise AudioError(
                f"utterance '{utterance.utt_id}' ({utterance.audio}) was whole when the corpus was "
                f"prepared, but now: {error}"
            ) from None

    @torch.inference_mode()
    def _hidden_states(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Frames (L x T x D, float16) of each waveform, without padding."""
        waveforms_BS, num_samples_B = pad_waveforms(waveforms)
        kind = self._device.type
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=kind == "cuda"):
            hidden_LBTD, num_frames_B = self._model(
                waveforms_BS.to(self._device), num_samples_B.to(self._device), self._layers
            )
        hidden_BLTD = hidden_LBTD.half().transpose(0, 1).cpu().numpy()
        lengths = num_frames_B.tolist()
        return [rows[:, :length] for rows, length in zip(hidden_BLTD, lengths, strict=True)]


def _require_finite(frames_LTD: np.ndarray, utt_id: str, layers: tuple[int, ...]) -> None:
    for layer, frames_TD in zip(layers, frames_LTD, strict=True):
        if not np.isfinite(frames_TD).all():
            raise FeatureRangeError(
                f"layer {layer} of utterance '{utt_id}' does not fit float16 (largest number "
                "65504): leave that layer out of features.layers"
            )
