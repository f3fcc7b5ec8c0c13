"""Stored tables, read by what people have: pandas, Polars and DuckDB, without this project."""

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from pipeline.features.stored_frames import frames_column
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact

LAYERS = (0, 21)
LENGTHS = (3, 1, 4)
DIM = 5
UNITS = [list(range(65536 - length, 65536)) for length in LENGTHS]


def hidden(layer: int) -> list[np.ndarray]:
    """Frames (T x D, float16) of each utterance."""
    generator = np.random.default_rng(layer)
    return [generator.normal(size=(length, DIM)).astype(np.float16) for length in LENGTHS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A shard of features and one of units, as the stages write them."""
    output = Artifact(str(tmp_path_factory.mktemp("output")))
    columns = {
        "utt_id": [f"u{place}" for place in range(len(LENGTHS))],
        "split": ["train"] * len(LENGTHS),
        "num_frames": LENGTHS,
    }
    layers = {table_schemas.layer_column(layer): frames_column(hidden(layer)) for layer in LAYERS}
    features = pa.table({**columns, **layers}, schema=table_schemas.features(LAYERS))
    output.write_table("shards/train-00000.parquet", features, row_group_size=2)
    named = {**columns, "units": UNITS}
    tokens = pa.table(
        [named[name] for name in table_schemas.TOKENS.names], schema=table_schemas.TOKENS
    )
    output.write_table("tokens/train-00000.parquet", tokens)
    return output.uri


def read_with_pandas(folder):
    features = pd.read_parquet(
        f"{folder}/shards/train-00000.parquet", columns=["utt_id", "layer_21"]
    )
    return {row.utt_id: np.stack(row.layer_21) for row in features.itertuples()}


def read_with_polars(folder):
    features = pl.scan_parquet(f"{folder}/shards/*.parquet").select("utt_id", "layer_21").collect()
    return {utt_id: np.array(frames) for utt_id, frames in features.iter_rows()}


def read_with_duckdb(folder):
    features = duckdb.read_parquet(f"{folder}/shards/*.parquet").select("utt_id", "layer_21")
    return {utt_id: np.array(frames) for utt_id, frames in features.fetchall()}


@pytest.mark.parametrize("read", [read_with_pandas, read_with_polars, read_with_duckdb])
def test_features(folder, read):
    """Every value is there exactly: 16 bits fit into whatever a reader makes of them."""
    found = read(folder)
    assert list(found) == ["u0", "u1", "u2"]
    for frames_TD, expected_TD in zip(found.values(), hidden(21), strict=True):
        np.testing.assert_array_equal(frames_TD, expected_TD)


def test_units(folder):
    file = f"{folder}/tokens/train-00000.parquet"
    assert [list(row) for row in pd.read_parquet(file)["units"]] == UNITS
    assert pl.read_parquet(file)["units"].to_list() == UNITS
    every = duckdb.read_parquet(file).select("unnest(units) as unit")
    counted = every.aggregate("unit, count(*)").order("unit").fetchall()
    assert counted == [(65532, 1), (65533, 2), (65534, 2), (65535, 3)]
