import numpy as np
import pyarrow as pa
import pytest
import torch
from support import hidden_states, save_tiny_ssl, tone_utterances

from pipeline import schema
from pipeline.artifacts import Artifact
from pipeline.config import Ssl
from pipeline.data.utterance import Utterance
from pipeline.features.columns import frames_column
from pipeline.features.extraction import (
    ROWS_PER_GROUP,
    FeatureRangeError,
    ShardWriter,
    plan_shards,
)
from pipeline.features.ssl import SslModel

LAYERS = (0, 2)


def utterance(split, number, duration):
    return Utterance(f"{split}-{number}", split, "a.wav", 0.0, duration, "s", "text", None)


def test_shards_hold_every_utterance_once_sorted_by_length_within_a_split():
    durations = [3.0, 1.0, 2.0, 5.0, 4.0]
    utterances = [utterance("train", i, d) for i, d in enumerate(durations)]
    utterances.append(utterance("train-other", 0, 1.0))
    shards = plan_shards(list(reversed(utterances)), shard_utterances=2)
    assert [(s.name, [u.duration for u in s.utterances]) for s in shards] == [
        ("shards/train-00000.parquet", [1.0, 2.0]),
        ("shards/train-00001.parquet", [3.0, 4.0]),
        ("shards/train-00002.parquet", [5.0]),
        ("shards/train-other-00000.parquet", [1.0]),
    ]
    assert plan_shards(utterances, 2) == shards
    assert plan_shards(utterances, 9, "tokens")[0].name == "tokens/train-00000.parquet"


@pytest.fixture(scope="module")
def ssl_folder(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return tone_utterances(tmp_path_factory.mktemp("audio"), "train", 20)


def writer(ssl_folder, output, batch_seconds=2.0):
    return ShardWriter(Ssl(model=str(ssl_folder)), output, LAYERS, batch_seconds)


def test_shard_holds_the_hidden_states_of_each_utterance_alone(tmp_path, ssl_folder, utterances):
    output = Artifact(str(tmp_path))
    summary = writer(ssl_folder, output)("shards/train-00000.parquet", utterances)
    table = output.read_table("shards/train-00000.parquet")
    assert table.schema.equals(schema.features(LAYERS))
    assert table["utt_id"].to_pylist() == [u.utt_id for u in utterances]
    model = SslModel.from_pretrained(ssl_folder)
    for row, one in zip(table.to_pylist(), utterances, strict=True):
        expected_LTD = hidden_states(model, one, LAYERS)
        assert row["num_frames"] == expected_LTD.shape[1]
        for layer, expected_TD in zip(LAYERS, expected_LTD, strict=True):
            stored_TD = np.array(row[schema.layer_column(layer)], dtype=np.float32)
            np.testing.assert_allclose(stored_TD, expected_TD, atol=5e-3)
    size = (tmp_path / "shards/train-00000.parquet").stat().st_size
    frames = sum(table["num_frames"].to_pylist())
    assert summary == {
        "name": "shards/train-00000.parquet",
        "rows": 20,
        "frames": frames,
        "bytes": size,
    }


def test_row_groups_are_small(tmp_path, ssl_folder, utterances):
    output = Artifact(str(tmp_path))
    writer(ssl_folder, output)("shards/train-00000.parquet", utterances)
    groups = pa.parquet.ParquetFile(tmp_path / "shards/train-00000.parquet").metadata
    rows = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert rows == [ROWS_PER_GROUP, 20 - ROWS_PER_GROUP]


def test_whole_shard_is_kept_and_a_short_one_written_again(tmp_path, ssl_folder, utterances):
    output = Artifact(str(tmp_path))
    write = writer(ssl_folder, output)
    path = tmp_path / "shards/train-00000.parquet"
    write("shards/train-00000.parquet", utterances[:3])
    first = path.stat().st_mtime_ns
    write("shards/train-00000.parquet", utterances[:3])
    assert path.stat().st_mtime_ns == first
    assert write("shards/train-00000.parquet", utterances[:4])["rows"] == 4


def test_overflow_of_float16_is_one_clear_error(tmp_path, ssl_folder, utterances):
    model = SslModel.from_pretrained(ssl_folder)
    with torch.no_grad():
        model.backbone.encoder.layers[1].final_layer_norm.bias[3] = 1e5
    model.save_pretrained(tmp_path / "loud")
    write = writer(tmp_path / "loud", Artifact(str(tmp_path)))
    with pytest.raises(FeatureRangeError, match=r"layer 2 of utterance 'train-00[01]'.*65504"):
        write("shards/train-00000.parquet", utterances[:2])
    assert not (tmp_path / "shards/train-00000.parquet").exists()


def test_column_round_trip():
    frames = [np.arange(6, dtype=np.float16).reshape(3, 2), np.ones((1, 2), np.float16)]
    column = frames_column(frames)
    assert column.type == schema.features((0,)).field("layer_00").type
    assert [np.array(row).tolist() for row in column.to_pylist()] == [f.tolist() for f in frames]
