"""Ways to store hidden states in Parquet: seconds to read them back, seconds to write, bytes.

Shapes: L layers, T frames, D dimensions, S samples.
"""

import io
import statistics
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.joint_step import TINY_WAVLM
from benchmarks.measure import Cost
from benchmarks.record import Record
from pipeline.features.stored_frames import frames_column
from pipeline.storage.artifacts import Artifact
from pipeline.storage.table_schemas import layer_column

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

SAMPLE_RATE_HZ = 16_000
OURS = "ours"
# What differs from pyarrow's own defaults: snappy, and a dictionary for every column.
FORMATS: dict[str, dict[str, Any]] = {
    "pyarrow's defaults": {},
    "zstd with dictionaries": {"compression": "zstd"},
    "snappy without": {"use_dictionary": False},
    "zstd 3 without": {"use_dictionary": False, "compression": "zstd", "compression_level": 3},
    "bytes split, zstd": {
        "use_dictionary": False,
        "use_byte_stream_split": True,
        "compression": "zstd",
    },
    "nothing": {"use_dictionary": False, "compression": "none"},
}
PAIRS = tuple((name, OURS) for name in FORMATS)


@dataclass(frozen=True)
class Setting:
    """How many utterances of how many seconds, through what WavLM (base where not given)."""

    utterances: int
    seconds: float
    wavlm: dict[str, Any]
    rounds: int


SIZES = {"full": Setting(8, 10.0, {}, 5), "small": Setting(2, 0.5, TINY_WAVLM, 2)}


def run(size: str, device: torch.device) -> Record:
    setting = SIZES[size]
    table = hidden_states(setting)
    writers: dict[str, Callable[[], bytes]] = {OURS: lambda: written_by_us(table)}
    for name, options in FORMATS.items():
        writers[name] = lambda options=options: written(table, options)
    written_seconds: dict[str, list[float]] = {name: [] for name in writers}
    read_seconds: dict[str, list[float]] = {name: [] for name in writers}
    sizes: dict[str, int] = {}
    for _ in range(setting.rounds):
        for name, write in writers.items():
            started = time.perf_counter()
            packed = write()
            written_seconds[name].append(time.perf_counter() - started)
            sizes[name] = len(packed)
            started = time.perf_counter()
            pq.read_table(io.BytesIO(packed))
            read_seconds[name].append(time.perf_counter() - started)
    costs = {
        name: Cost(str(FORMATS.get(name, "as the stage writes a shard")), 1.0, tuple(found), None)
        for name, found in read_seconds.items()
    }
    checks = {f"{name}: bytes over float16 bytes": sizes[name] / values(table) for name in writers}
    checks |= {
        f"{name}: seconds to write": statistics.median(found)
        for name, found in written_seconds.items()
    }
    return Record("shard_format", device.type, size, asdict(setting), costs, {}, PAIRS, checks)


def hidden_states(setting: Setting) -> pa.Table:
    """All layers of noise through a model with random weights."""
    from transformers import WavLMConfig, WavLMModel

    torch.manual_seed(0)
    model = WavLMModel(WavLMConfig(**setting.wavlm)).eval()
    layers: list[list[np.ndarray]] = []
    with torch.inference_mode():
        for _ in range(setting.utterances):
            samples_1S = 0.1 * torch.randn(1, int(setting.seconds * SAMPLE_RATE_HZ))
            hidden = model(samples_1S, output_hidden_states=True).hidden_states
            layers.append([one_1TD[0].half().numpy() for one_1TD in hidden])
    columns = {
        layer_column(place): frames_column([one[place] for one in layers])
        for place in range(len(layers[0]))
    }
    return pa.table(columns)


def values(table: pa.Table) -> int:
    """Bytes of the frames alone."""
    return sum(2 * len(column.combine_chunks().flatten().flatten()) for column in table.columns)


def written(table: pa.Table, options: dict[str, Any]) -> bytes:
    packed = io.BytesIO()
    pq.write_table(table, packed, **options)
    return packed.getvalue()


def written_by_us(table: pa.Table) -> bytes:
    output = Artifact("memory://shard-format")
    output.write_table("shard.parquet", table)
    with output.read("shard.parquet") as file:
        return file.read()
