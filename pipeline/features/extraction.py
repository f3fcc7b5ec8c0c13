"""Hidden states of a corpus, shard by shard, as each worker of the extraction pool computes them."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline.audio.decode import read_utterance
from pipeline.audio.utterance import Utterance
from pipeline.config import Features, Ssl
from pipeline.corpus.shard_store import ShardStore
from pipeline.features.batching import batch_seconds_on, length_batches
from pipeline.features.encoders.load import load_encoder
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.features.inference import Awaited, Inference, decoding_threads, dtype_on
from pipeline.features.size import sample_frames
from pipeline.features.ssl_folder import ssl_to_load
from pipeline.features.stored_frames import frames_column
from pipeline.features.windows import Windowing, encode_in_windows
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact

# Small, because training reads utterances in its own order. A reader of one layer reads row groups
# in parallel.
ROWS_PER_GROUP = 4
# Settings that group or speed up without changing features.
LAYOUT = {"batch_seconds", "shard_utterances", "shard_seconds", "compile"}
# float16 without its sign, as an integer: from here on it is infinite or not a number.
INFINITE = 0x7C00


class FeatureRangeError(ValueError):
    """Hidden states that float16 cannot hold."""


class ShardWriter:
    """Loads the SSL model once, then writes the features of one shard after another as Parquet.

    May be called from several threads: one shard uses the model while others are decoded or written.
    `finetuned` is the output of the training that `ssl` names, if it names one.
    """

    def __init__(
        self, ssl: Ssl, features: Features, output: Artifact, finetuned: Artifact | None = None
    ) -> None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = dtype_on(device, features.precision)
        with ssl_to_load(ssl, finetuned) as found:
            layer = max(features.layers)
            model = load_encoder(found.source, found.revision, layer, found.pad, pool=features.pool)
            fingerprint = ssl_fingerprint(found)
        model.narrow(dtype)
        self._model = model.to(device)
        self._inference = Inference(self._model, features.compile)
        self._features = features
        self._batch_seconds = batch_seconds_on(device, features.batch_seconds)
        made_from = {
            "ssl": fingerprint,
            "dtype": "float16",
            **features.model_dump(mode="json", exclude=LAYOUT),
        }
        notes = {"computed_in": str(dtype).removeprefix("torch.")}
        self._store = ShardStore(output, made_from, notes)
        self._decoders = ThreadPoolExecutor(decoding_threads(device), thread_name_prefix="decode")
        self._model_lock = Lock()

    def __call__(self, name: str, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Write one shard, unless it is complete; return its name, rows, frames and bytes.

        Raises:
            AudioError: an utterance cannot be decoded.
            FeatureRangeError: a hidden state exceeds the range of float16.
            StorageFullError: the storage is full.
        """
        return self._store.keep_or_write(name, utterances, self._table, ROWS_PER_GROUP)

    def _table(self, utterances: Sequence[Utterance]) -> pa.Table:
        layers, sampled = self._features.layers, self._features.sample_frames_per_second is not None
        hidden = self._frames(utterances)
        columns: dict[str, Any] = {
            "utt_id": [utterance.utt_id for utterance in utterances],
            "split": [utterance.split for utterance in utterances],
            "num_frames": [frames_LTD.shape[1] for frames_LTD in hidden],
        }
        for utterance, frames_LTD in zip(utterances, hidden, strict=True):
            _require_finite(frames_LTD, utterance.utt_id, layers)
        if sampled:
            rows = zip(columns["utt_id"], columns["num_frames"], strict=True)
            columns[table_schemas.FRAME_INDEX] = chosen = [self._sample(*row) for row in rows]
            hidden = [
                frames_LTD[:, index] for frames_LTD, index in zip(hidden, chosen, strict=True)
            ]
        for index, layer in enumerate(layers):
            columns[table_schemas.layer_column(layer)] = frames_column(
                [frames_LTD[index] for frames_LTD in hidden]
            )
        return pa.table(columns, schema=table_schemas.features(layers, sampled=sampled))

    def _frames(self, utterances: Sequence[Utterance]) -> list[np.ndarray]:
        """Frames (L x T x D, float16) of each utterance."""
        hidden: dict[int, Awaited] = {}
        rate, padded = self._model.grid.sample_rate_hz, self._inference.padded_samples
        seconds = [padded(round(utterance.duration * rate)) / rate for utterance in utterances]
        # Longest first: the memory that a batch frees is large enough for all later ones.
        batches = length_batches(seconds, self._batch_seconds)[::-1]
        # Decoding runs ahead of the model; a shard's audio fits into memory.
        decoded = [
            [self._decoders.submit(read_utterance, utterances[index], rate) for index in batch]
            for batch in batches
        ]
        with self._model_lock:
            for batch, futures in zip(batches, decoded, strict=True):
                frames = encode_in_windows(
                    self._start,
                    [future.result() for future in futures],
                    self._model.grid,
                    Windowing.of(self._features),
                    self._batch_seconds,
                    padded_samples=padded,
                )
                hidden |= zip(batch, frames, strict=True)
        # The next shard has the model now, while this one's frames still come from a GPU.
        return [hidden[index]() for index in range(len(utterances))]

    def _sample(self, utt_id: str, num_frames: int) -> np.ndarray:
        """The indices of an utterance's frames that are stored."""
        share = (self._features.sample_frames_per_second or 0) / self._model.grid.frames_per_second
        return sample_frames(utt_id, num_frames, share, self._features.sample_seed)

    def _start(self, waveforms: list[np.ndarray]) -> list[Awaited]:
        """What waits for the frames (L x T x D, float16) of each waveform."""
        return self._inference.start(waveforms, self._features.layers, _stored)


def _stored(hidden_LBTD: torch.Tensor) -> torch.Tensor:
    return hidden_LBTD.half().transpose(0, 1)


def _require_finite(frames_LTD: np.ndarray, utt_id: str, layers: tuple[int, ...]) -> None:
    for layer, frames_TD in zip(layers, frames_LTD, strict=True):
        if (frames_TD.view(np.uint16) & 0x7FFF).max() >= INFINITE:
            raise FeatureRangeError(
                f"layer {layer} of utterance '{utt_id}' exceeds the range of float16 (at most "
                "65504): leave that layer out of features.layers"
            )
