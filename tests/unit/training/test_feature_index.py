"""Where utterances' frames lie, found by reading names and counts alone."""

import pyarrow as pa
import pytest

from pipeline.storage.artifacts import Artifact
from pipeline.training.inputs import Location, feature_index


@pytest.fixture
def features(tmp_path):
    output = Artifact(str(tmp_path))
    for name, ids in {"train-00000": "abc", "train-00001": "d", "train-other-00000": "e"}.items():
        rows = [{"utt_id": utt_id, "num_frames": ord(utt_id) - 90} for utt_id in ids]
        output.write_table(f"shards/{name}.parquet", pa.Table.from_pylist(rows), row_group_size=2)
    return output


def test_utterances_of_the_splits_asked_for_with_shard_row_group_and_frames(features):
    assert feature_index(features, ("train",)) == {
        "a": Location("shards/train-00000.parquet", 0, 7),
        "b": Location("shards/train-00000.parquet", 0, 8),
        "c": Location("shards/train-00000.parquet", 1, 9),
        "d": Location("shards/train-00001.parquet", 0, 10),
    }
    assert set(feature_index(features, ("train-other",))) == {"e"}
