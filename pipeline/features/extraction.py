"""Hidden states of a corpus, shard by shard; what each worker of the extraction pool runs."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
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
from pipeline.features.columns import frames_column
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.features.frame_sample import sample_frames
from pipeline.features.ssl import SslModel, pad_waveforms
from pipeline.features.windows import Windowing, encode_in_windows
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact

FOLDER = "shards"
# Small, since training reads utterances in an order of its own, and who reads one layer reads row
# groups side by side.
ROWS_PER_GROUP = 4
DECODING_THREADS = 2
SHARDS_OF_CORPUS, LEAST_SHARD_SECONDS, MOST_SHARD_SECONDS = 16, 60.0, 300.0
# Settings that say how utterances are grouped, not what their features are.
LAYOUT = {"batch_seconds", "shard_utterances", "shard_seconds"}


@dataclass(frozen=True)
class Shard:
    """Utterances of one split, and the name of the file that they go into."""

    name: str
    utterances: tuple[Utterance, ...]


class FeatureRangeError(ValueError):
    """Hidden states that float16 cannot hold."""


def plan_shards(
    utterances: Sequence[Utterance],
    shard_utterances: int,
    shard_seconds: float | None = None,
    folder: str = FOLDER,
) -> list[Shard]:
    """Cut each split, sorted by duration, into shards `<folder>/<split>-00000.parquet`.

    Similar lengths lie together, so that batches of a shard need little padding. A shard holds at
    most `shard_utterances` and at most `shard_seconds` of audio, or one utterance that is longer.
    Without a limit to the seconds it is a 16th of the corpus, so that no worker is left alone with
    the last one for long, though neither tiny nor more than what a worker can hold of the layers of
    a *large* model.
    """
    if shard_seconds is None:
        share = sum(one.duration for one in utterances) / SHARDS_OF_CORPUS
        shard_seconds = min(max(share, LEAST_SHARD_SECONDS), MOST_SHARD_SECONDS)
    ordered = sorted(utterances, key=lambda one: (one.split, one.duration, one.utt_id))
    shards = []
    for split, group in groupby(ordered, key=lambda one: one.split):
        for number, members in enumerate(_cut(group, shard_utterances, shard_seconds)):
            shards.append(Shard(f"{folder}/{split}-{number:05d}.parquet", tuple(members)))
    return shards


def _cut(utterances: Iterable[Utterance], most: int, most_seconds: float) -> list[list[Utterance]]:
    pieces: list[list[Utterance]] = []
    seconds = 0.0
    for one in utterances:
        if pieces and len(pieces[-1]) < most and seconds + one.duration <= most_seconds:
            pieces[-1].append(one)
            seconds += one.duration
        else:
            pieces.append([one])
            seconds = one.duration
    return pieces


class ShardWriter:
    """Loads the SSL model once, then turns shard after shard of utterances into Parquet.

    May be called from several threads: one shard at a time has the model, while others are decoded
    or written.
    """

    def __init__(self, ssl: Ssl, features: Features, output: Artifact) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = _dtype(features.precision, self._device)
        model = SslModel.from_pretrained(ssl.source, ssl.revision, max_layer=max(features.layers))
        self._model = model.to(self._device)
        self._features = features
        self._batch_seconds = batch_seconds_on(self._device, features.batch_seconds)
        made_from = {
            "ssl": ssl_fingerprint(ssl),
            "dtype": "float16",
            **features.model_dump(mode="json", exclude=LAYOUT),
        }
        notes = {"computed_in": str(self._dtype).removeprefix("torch.")}
        self._store = ShardStore(output, made_from, notes)
        self._decoders = ThreadPoolExecutor(DECODING_THREADS, thread_name_prefix="decode")
        self._turn = Lock()

    def __call__(self, name: str, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """Write one shard; returns its name, rows, frames and bytes. A whole shard is kept.

        Raises:
            AudioError: an utterance cannot be decoded.
            FeatureRangeError: a hidden state is beyond float16.
            StorageFullError: the storage takes no more bytes.
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
            rows = list(zip(columns["utt_id"], columns["num_frames"], strict=True))
            columns[table_schemas.FRAME_INDEX] = chosen = [self._sample(*row) for row in rows]
            hidden = [one[:, index] for one, index in zip(hidden, chosen, strict=True)]
        for place, layer in enumerate(layers):
            columns[table_schemas.layer_column(layer)] = frames_column(
                [one[place] for one in hidden]
            )
        return pa.table(columns, schema=table_schemas.features(layers, sampled=sampled))

    def _frames(self, utterances: Sequence[Utterance]) -> list[np.ndarray]:
        """Frames (L x T x D, float16) of each utterance."""
        hidden: list[np.ndarray] = [np.empty(0)] * len(utterances)
        seconds = [utterance.duration for utterance in utterances]
        # Longest first: what a batch gives back is large enough for all that follow.
        batches = length_batches(seconds, self._batch_seconds)[::-1]
        # Decoding runs ahead of the model; a shard's audio is small enough to hold.
        rate = self._model.grid.sample_rate_hz
        decoded = [
            [self._decoders.submit(read_utterance, utterances[place], rate) for place in batch]
            for batch in batches
        ]
        with self._turn:
            for batch, futures in zip(batches, decoded, strict=True):
                frames = encode_in_windows(
                    self._hidden_states,
                    [future.result() for future in futures],
                    self._model.grid,
                    Windowing.of(self._features),
                    self._batch_seconds,
                )
                for place, frames_LTD in zip(batch, frames, strict=True):
                    hidden[place] = frames_LTD
        return hidden

    def _sample(self, utt_id: str, num_frames: int) -> np.ndarray:
        """Which of an utterance's frames are stored."""
        share = (self._features.sample_frames_per_second or 0) / self._model.grid.frames_per_second
        return sample_frames(utt_id, num_frames, share, self._features.sample_seed)

    @torch.inference_mode()
    def _hidden_states(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        """Frames (L x T x D, float16) of each waveform, without padding."""
        waveforms_BS, num_samples_B = pad_waveforms(waveforms)
        narrow = self._dtype != torch.float32
        with torch.autocast(self._device.type, dtype=self._dtype) if narrow else nullcontext():
            hidden_LBTD, num_frames_B = self._model(
                waveforms_BS.to(self._device),
                num_samples_B.to(self._device),
                self._features.layers,
            )
        hidden_BLTD = hidden_LBTD.half().transpose(0, 1).cpu().numpy()
        lengths = num_frames_B.tolist()
        return [rows[:, :length] for rows, length in zip(hidden_BLTD, lengths, strict=True)]


def _dtype(precision: str, device: torch.device) -> torch.dtype:
    """What the model computes in; `auto` is bfloat16 on a GPU and float32 elsewhere."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype: torch.dtype = getattr(torch, precision)
    return dtype


def _require_finite(frames_LTD: np.ndarray, utt_id: str, layers: tuple[int, ...]) -> None:
    for layer, frames_TD in zip(layers, frames_LTD, strict=True):
        if not np.isfinite(frames_TD).all():
            raise FeatureRangeError(
                f"layer {layer} of utterance '{utt_id}' does not fit float16 (largest number "
                "65504): leave that layer out of features.layers"
            )
