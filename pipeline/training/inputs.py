"""What a training step reads: utterances as stored hidden states or as audio.

Shapes: L layers, B utterances, T frames, D features, S samples.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import pyarrow.parquet as pq
import torch

from pipeline.audio.decode import read_utterance
from pipeline.audio.utterance import Utterance
from pipeline.features.ssl import pad_waveforms
from pipeline.features.stored_frames import frames_of
from pipeline.storage.artifacts import Artifact
from pipeline.storage.table_schemas import layer_column

# A thousand hours are twelve thousand shards, and each read of an object store has to wait.
INDEX_READERS = 16


@dataclass(frozen=True)
class Example:
    """An utterance with the pieces of text it is to become."""

    utterance: Utterance
    target: tuple[int, ...]


@dataclass(frozen=True)
class Inputs:
    """A padded batch of one kind, with the numbers of frames, samples or subwords in `lengths_B`.

    They stay on the host, which looks at them and would have to wait for a GPU.
    `positions` are those of the utterances in the step's batch, over all workers, if it is a step's.
    `log_mels_BTM` and `speakers_B` are what the resynthesis loss compares with, where there is one.
    """

    lengths_B: torch.Tensor
    targets: list[list[int]]
    hidden_LBTD: torch.Tensor | None = None
    waveforms_BS: torch.Tensor | None = None
    subwords_BT: torch.Tensor | None = None
    positions: tuple[int, ...] = ()
    log_mels_BTM: torch.Tensor | None = None
    speakers_B: torch.Tensor | None = None

    def to(self, device: torch.device) -> Self:
        """On `device` but for the lengths; from pinned memory this does not wait."""
        moved = self._each(lambda tensor: tensor.to(device, non_blocking=True))
        return replace(moved, lengths_B=self.lengths_B)

    def pin_memory(self) -> Self:
        """In memory that a GPU reads by itself; torch's DataLoader knows the name."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, move: Callable[[torch.Tensor], torch.Tensor]) -> Self:
        tensors: dict[str, Any] = {
            name: move(value)
            for name, value in vars(self).items()
            if isinstance(value, torch.Tensor)
        }
        return replace(self, **tensors)


class Source(Protocol):
    """Where the frames of utterances come from."""

    def load(self, examples: Sequence[Example], epoch: int | None = None) -> Inputs:
        """`examples` as a batch, in a form that may differ from `epoch` to epoch; as they are, if none."""


class Cache:
    """The most recently used arrays, at most `max_bytes` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._arrays: OrderedDict[str, np.ndarray] = OrderedDict()

    def get(self, key: str) -> np.ndarray | None:
        if key in self._arrays:
            self._arrays.move_to_end(key)
        return self._arrays.get(key)

    def put(self, key: str, array: np.ndarray) -> None:
        if key in self._arrays:
            return
        self._arrays[key] = array
        self._bytes += array.nbytes
        while self._bytes > self._max_bytes and len(self._arrays) > 1:
            _, oldest = self._arrays.popitem(last=False)
            self._bytes -= oldest.nbytes


@dataclass(frozen=True)
class Location:
    """The shard of an utterance, the row group in it, and the utterance's number of frames."""

    features: Artifact
    shard: str
    group: int
    num_frames: int


def feature_index(features: Iterable[Artifact]) -> dict[str, Location]:
    """The location of every extracted utterance in some outputs, by its utt_id."""

    def read(shard: tuple[Artifact, str]) -> dict[str, Location]:
        locations: dict[str, Location] = {}
        output, name = shard
        with output.read(name) as file:
            parquet = pq.ParquetFile(file)
            for group in range(parquet.num_row_groups):
                table = parquet.read_row_group(group, columns=["utt_id", "num_frames"])
                for row in table.to_pylist():
                    locations[row["utt_id"]] = Location(output, name, group, row["num_frames"])
        return locations

    shards = [(output, name) for output in features for name in output.names("shards")]
    with ThreadPoolExecutor(INDEX_READERS, thread_name_prefix="feature-index") as pool:
        return {
            utt_id: location for part in pool.map(read, shards) for utt_id, location in part.items()
        }


class FeatureSource:
    """Hidden states of `layers` of the utterances in `locations`, from their Parquet shards.

    Shards are sorted by length and so are batches: the row group that holds one utterance of a
    batch usually holds others of it, so complete row groups are read and kept for a while.
    """

    def __init__(
        self,
        locations: Mapping[str, Location],
        layers: Sequence[int],
        cache_bytes: int,
    ) -> None:
        self._columns = [layer_column(layer) for layer in layers]
        self._cache = Cache(cache_bytes)
        self._locations = locations

    def load(self, examples: Sequence[Example], epoch: int | None = None) -> Inputs:  # noqa: ARG002
        """Stack and pad the hidden states of `examples`."""
        arrays = [self._hidden(example.utterance.utt_id) for example in examples]
        longest = max(array.shape[1] for array in arrays)
        hidden_LBTD = torch.zeros(
            (arrays[0].shape[0], len(arrays), longest, arrays[0].shape[2]), dtype=torch.float32
        )
        for index, array in enumerate(arrays):
            hidden_LBTD[:, index, : array.shape[1]] = torch.from_numpy(array)
        lengths_B = torch.tensor([array.shape[1] for array in arrays])
        return Inputs(lengths_B, [list(e.target) for e in examples], hidden_LBTD=hidden_LBTD)

    def _hidden(self, utt_id: str) -> np.ndarray:
        hidden_LTD = self._cache.get(utt_id)
        if hidden_LTD is not None:
            return hidden_LTD
        location = self._locations[utt_id]
        columns = ["utt_id", *self._columns]
        with location.features.read(location.shard) as file:
            table = pq.ParquetFile(file).read_row_group(location.group, columns=columns)
        layers = [frames_of(table[column]) for column in self._columns]
        rows = {
            key: np.stack([frames[row] for frames in layers])
            for row, key in enumerate(table["utt_id"].to_pylist())
        }
        if utt_id not in rows:
            raise KeyError(f"{utt_id} is not in row group {location.group} of {location.shard}")
        for key, row_LTD in rows.items():
            self._cache.put(key, row_LTD)
        return rows[utt_id]


class AudioSource:
    """Waveforms, decoded and resampled; recently used ones are kept."""

    def __init__(self, sample_rate_hz: int, cache_bytes: int) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._cache = Cache(cache_bytes)

    def load(self, examples: Sequence[Example], epoch: int | None = None) -> Inputs:  # noqa: ARG002
        """Pad the waveforms of `examples`."""
        arrays = [self.waveform(example.utterance) for example in examples]
        waveforms_BS, lengths_B = pad_waveforms(arrays)
        return Inputs(lengths_B, [list(e.target) for e in examples], waveforms_BS=waveforms_BS)

    def waveform(self, utterance: Utterance) -> np.ndarray:
        waveform = self._cache.get(utterance.utt_id)
        if waveform is None:
            waveform = read_utterance(utterance, self._sample_rate_hz)
            self._cache.put(utterance.utt_id, waveform)
        return waveform


@dataclass(frozen=True)
class TrainingData:
    """Examples, and where the frames come from, by what phases say of the SSL model."""

    train: list[Example]
    valid: list[Example]
    sources: dict[str, Source]
