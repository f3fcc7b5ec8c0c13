import dataclasses
import errno
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pyarrow as pa
import pytest
import torch
from fsspec.implementations.local import LocalFileOpener
from support import hidden_states, save_tiny_ssl, tone_utterances

from pipeline.audio.utterance import Utterance
from pipeline.config import Features, Ssl
from pipeline.corpus.shards import plan_shards
from pipeline.features.encoders.load import load_encoder
from pipeline.features.extraction import (
    ROWS_PER_GROUP,
    FeatureRangeError,
    ShardWriter,
)
from pipeline.features.fingerprint import ssl_fingerprint
from pipeline.features.size import sample_frames
from pipeline.features.stored_frames import StoredFrames, frames_column, frames_of
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import Artifact, StorageFullError

LAYERS = (0, 2)
NAME = "shards/train-00000.parquet"


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
    seconds = [sum(u.duration for u in s.utterances) for s in plan_shards(utterances, 9, 4.5)]
    assert seconds == [3.0, 3.0, 4.0, 5.0, 1.0]
    assert plan_shards(utterances, 9, folder="tokens")[0].name == "tokens/train-00000.parquet"


@pytest.mark.parametrize(("hours", "longest"), [(0.1, 60.0), (0.8, 180.0), (100.0, 300.0)])
def test_shards_suit_the_corpus_unless_told_otherwise(hours, longest):
    utterances = [utterance("train", place, 7.5) for place in range(round(hours * 480))]
    seconds = [
        sum(one.duration for one in shard.utterances) for shard in plan_shards(utterances, 999)
    ]
    assert sum(seconds) == hours * 3600
    assert {round(one, 6) for one in seconds[:-1]} == {longest}


@pytest.fixture(scope="module")
def ssl_folder(tmp_path_factory):
    return save_tiny_ssl(tmp_path_factory.mktemp("ssl"))


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return tone_utterances(tmp_path_factory.mktemp("audio"), "train", 20)


def writer(ssl_folder, output, batch_seconds=2.0, **settings):
    features = Features(layers=LAYERS, batch_seconds=batch_seconds, **settings)
    return ShardWriter(Ssl(model=str(ssl_folder)), features, output)


def test_shard_holds_the_hidden_states_of_each_utterance_alone(tmp_path, ssl_folder, utterances):
    output = Artifact(str(tmp_path))
    summary = writer(ssl_folder, output)(NAME, utterances)
    table = output.read_table(NAME)
    assert table.schema.equals(table_schemas.features(LAYERS))
    assert table["utt_id"].to_pylist() == [u.utt_id for u in utterances]
    model = load_encoder(ssl_folder)
    for row, one in zip(table.to_pylist(), utterances, strict=True):
        expected_LTD = hidden_states(model, one, LAYERS)
        assert row["num_frames"] == expected_LTD.shape[1]
        for layer, expected_TD in zip(LAYERS, expected_LTD, strict=True):
            stored_TD = np.array(row[table_schemas.layer_column(layer)], dtype=np.float32)
            np.testing.assert_allclose(stored_TD, expected_TD, atol=5e-3)
    size = (tmp_path / NAME).stat().st_size
    frames = sum(table["num_frames"].to_pylist())
    assert summary == {
        "name": NAME,
        "rows": 20,
        "frames": frames,
        "bytes": size,
    }


def test_pooled_frames_are_means_and_an_incomplete_group_is_not_stored(
    tmp_path, ssl_folder, utterances
):
    output = Artifact(str(tmp_path))
    summary = writer(ssl_folder, output, pool=4)(NAME, utterances)
    model = load_encoder(ssl_folder)
    for row, one in zip(output.read_table(NAME).to_pylist(), utterances, strict=True):
        whole_LTD = hidden_states(model, one, LAYERS)
        starts = range(0, whole_LTD.shape[1] - 3, 4)
        assert row["num_frames"] == len(starts) == whole_LTD.shape[1] // 4
        for layer, whole_TD in zip(LAYERS, whole_LTD, strict=True):
            stored_TD = np.array(row[table_schemas.layer_column(layer)], dtype=np.float32)
            expected_TD = [whole_TD[start : start + 4].mean(0) for start in starts]
            np.testing.assert_allclose(stored_TD, expected_TD, atol=5e-3)
    assert output.read_record(NAME)["pool"] == 4
    assert summary["frames"] == sum(output.read_table(NAME)["num_frames"].to_pylist())


def test_row_groups_are_small(tmp_path, ssl_folder, utterances):
    output = Artifact(str(tmp_path))
    writer(ssl_folder, output)(NAME, utterances)
    groups = pa.parquet.ParquetFile(tmp_path / NAME).metadata
    rows = [groups.row_group(i).num_rows for i in range(groups.num_row_groups)]
    assert rows == [ROWS_PER_GROUP] * 5


def test_a_shard_and_its_record_say_what_it_is(tmp_path, ssl_folder, utterances):
    output = Artifact(str(tmp_path))
    writer(ssl_folder, output)(NAME, utterances)
    record = output.read_record(NAME)
    frames = sum(output.read_table(NAME)["num_frames"].to_pylist())
    expected = {
        "rows": 20,
        "frames": frames,
        "ssl": ssl_fingerprint(Ssl(model=str(ssl_folder))),
        "layers": [0, 2],
        "dtype": "float16",
        "precision": "auto",
    }
    assert expected.items() <= record.items()
    assert record["computed_in"] == ("bfloat16" if torch.cuda.is_available() else "float32")
    content = (tmp_path / NAME).read_bytes()
    assert record["bytes"] == len(content)
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    metadata = pa.parquet.read_schema(tmp_path / NAME).metadata
    for key, value in expected.items():
        text = metadata[key.encode()].decode()
        assert (text if isinstance(value, str) else json.loads(text)) == value


CHANGES = {
    "other utterances": lambda utterances: utterances[1:4],
    "another stretch": lambda utterances: [
        dataclasses.replace(utterances[0], duration=0.4),
        *utterances[1:3],
    ],
}


def test_a_whole_shard_is_kept_and_no_part_of_it_read(
    tmp_path, ssl_folder, utterances, monkeypatch
):
    output = Artifact(str(tmp_path))
    write = writer(ssl_folder, output)
    first = write(NAME, utterances[:3])
    read = []
    whole_read = Artifact.read
    monkeypatch.setattr(Artifact, "read", lambda self, n: read.append(n) or whole_read(self, n))
    before = (tmp_path / NAME).stat().st_mtime_ns
    assert write(NAME, utterances[:3]) == first
    assert (tmp_path / NAME).stat().st_mtime_ns == before
    assert read == [f"records/{NAME}.json"]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_shard_of_something_else_is_written_again(tmp_path, ssl_folder, utterances, change):
    output = Artifact(str(tmp_path))
    write = writer(ssl_folder, output)
    write(NAME, utterances[:3])
    before = (tmp_path / NAME).stat().st_mtime_ns
    changed = change(utterances)
    write(NAME, changed)
    assert (tmp_path / NAME).stat().st_mtime_ns != before
    assert output.read_table(NAME)["utt_id"].to_pylist() == [one.utt_id for one in changed]


def test_a_shard_of_another_model_or_other_layers_is_written_again(
    tmp_path, ssl_folder, utterances
):
    output = Artifact(str(tmp_path))
    writer(ssl_folder, output)(NAME, utterances[:3])
    ssl = load_encoder(ssl_folder)
    ssl.save_pretrained(tmp_path / "same")
    for settings, column in (({"layers": (0, 1)}, "layer_01"), ({"layers": (2,)}, "layer_02")):
        features = Features(batch_seconds=2.0, **settings)
        ShardWriter(Ssl(model=str(ssl_folder)), features, output)(NAME, utterances[:3])
        assert output.read_table(NAME).column_names[-1] == column
    with torch.no_grad():
        ssl.backbone.encoder.layers[0].final_layer_norm.bias += 1.0
    ssl.save_pretrained(tmp_path / "other")
    before = (tmp_path / NAME).read_bytes()
    features = Features(batch_seconds=2.0, layers=(2,))
    ShardWriter(Ssl(model=str(tmp_path / "other")), features, output)(NAME, utterances[:3])
    assert (tmp_path / NAME).read_bytes() != before


def test_a_shard_cut_short_or_without_its_record_is_written_again_to_the_same_bytes(
    tmp_path, ssl_folder, utterances
):
    output = Artifact(str(tmp_path))
    write = writer(ssl_folder, output)
    write(NAME, utterances[:3])
    content = (tmp_path / NAME).read_bytes()
    record = tmp_path / "records" / f"{NAME}.json"
    damages = {
        "cut short": lambda: (tmp_path / NAME).write_bytes(content[:-1]),
        "gone": (tmp_path / NAME).unlink,
        "no record": record.unlink,
        "damaged record": lambda: record.write_text("{"),
        "no record at all": lambda: record.write_text("[1]"),
    }
    for damage in damages.values():
        damage()
        before = (tmp_path / NAME).stat().st_mtime_ns if (tmp_path / NAME).exists() else 0
        write(NAME, utterances[:3])
        assert (tmp_path / NAME).stat().st_mtime_ns != before
        assert (tmp_path / NAME).read_bytes() == content
        assert output.read_record(NAME) is not None


def test_shards_written_side_by_side_are_those_written_in_turn(tmp_path, ssl_folder, utterances):
    shards = plan_shards(utterances, 3)
    together, apart = Artifact(str(tmp_path / "together")), Artifact(str(tmp_path / "apart"))
    write = writer(ssl_folder, together)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda shard: write(shard.name, shard.utterances), shards))
    write = writer(ssl_folder, apart)
    for shard in shards:
        write(shard.name, shard.utterances)
        one, other = (tmp_path / name / shard.name for name in ("together", "apart"))
        assert one.read_bytes() == other.read_bytes()


def test_a_shard_is_written_while_the_next_has_the_model(
    tmp_path, ssl_folder, utterances, monkeypatch
):
    write = writer(ssl_folder, Artifact(str(tmp_path)))
    second_in_model = Event()
    start, write_table = ShardWriter._start, Artifact.write_table
    ids = []

    def noted(self, waveforms):
        ids.append(len(waveforms))
        if len(ids) == 2:
            second_in_model.set()
        return start(self, waveforms)

    def waiting(self, name, *arguments, **options):
        assert second_in_model.wait(60), "the next shard waits until this one is written"
        return write_table(self, name, *arguments, **options)

    monkeypatch.setattr(ShardWriter, "_start", noted)
    monkeypatch.setattr(Artifact, "write_table", waiting)
    shards = plan_shards(utterances[:2], 1)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda shard: write(shard.name, shard.utterances), shards))
    assert ids == [1, 1]


def test_a_full_disk_is_one_clear_error_that_leaves_whole_shards_alone(
    tmp_path, ssl_folder, utterances, monkeypatch
):
    output = Artifact(str(tmp_path / "output"))
    write = writer(ssl_folder, output)
    write(NAME, utterances[:3])
    other = NAME.replace("00000", "00001")
    with monkeypatch.context() as patch:
        patch.setattr(LocalFileOpener, "write", _no_space)
        with pytest.raises(
            StorageFullError, match=r"no space left to write .*train-00001.*run again"
        ):
            write(other, utterances[3:6])
    assert [path.name for path in (tmp_path / "output/shards").iterdir()] == ["train-00000.parquet"]
    before = (tmp_path / "output" / NAME).stat().st_mtime_ns
    write(NAME, utterances[:3])
    assert write(other, utterances[3:6])["rows"] == 3
    assert (tmp_path / "output" / NAME).stat().st_mtime_ns == before


def _no_space(*_arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("seed", [0, 1])
def test_a_sample_depends_on_seed_and_utterance_alone(tmp_path, ssl_folder, utterances, seed):
    sampling = {"sample_frames_per_second": 12.5, "sample_seed": seed}
    whole, large, small = (Artifact(str(tmp_path / name)) for name in ("whole", "large", "small"))
    writer(ssl_folder, whole)(NAME, utterances)
    writer(ssl_folder, large, **sampling)(NAME, utterances)
    writer(ssl_folder, small, batch_seconds=0.1, **sampling)(NAME, utterances[5:7])
    everything = {row["utt_id"]: row for row in whole.read_table(NAME).to_pylist()}
    rows = {row["utt_id"]: row for row in large.read_table(NAME).to_pylist()}
    for one in small.read_table(NAME).to_pylist():
        assert one["frame_index"] == rows[one["utt_id"]]["frame_index"]
    stored = 0
    for utt_id, row in rows.items():
        full, index = everything[utt_id], row["frame_index"]
        assert row["num_frames"] == full["num_frames"]
        assert index == sorted(set(index))
        assert len(index) == max(1, round(full["num_frames"] / 4))
        for column in ("layer_00", "layer_02"):
            expected = [full[column][place] for place in index]
            np.testing.assert_allclose(row[column], expected, atol=2e-3)
        stored += len(index)
    assert large.read_record(NAME)["frames"] == stored
    shard = StoredFrames.of_split(large, "train", 2)
    assert shard.num_frames(NAME) == stored == sum(map(len, shard.read(NAME)))


def test_seeds_draw_different_samples():
    draws = {tuple(sample_frames("a", 200, 0.1, seed)) for seed in range(5)}
    assert len(draws) == 5
    assert {len(draw) for draw in draws} == {20}
    assert list(sample_frames("a", 3, 5.0, 0)) == [0, 1, 2]
    counts = np.zeros(50)
    for number in range(2000):
        counts[sample_frames(f"utterance-{number}", 50, 0.2, 0)] += 1
    assert abs(counts - 400).max() < 100  # 5.6 standard deviations


# bfloat16 keeps 8 bits of a number and float16 11: 1.1 % and 0.15 % of error behind three layers.
@pytest.mark.parametrize(("precision", "share"), [("bfloat16", 0.03), ("float16", 0.005)])
def test_a_narrower_precision_comes_close(tmp_path, ssl_folder, utterances, precision, share):
    wide, narrow = Artifact(str(tmp_path / "wide")), Artifact(str(tmp_path / "narrow"))
    writer(ssl_folder, wide, precision="float32")(NAME, utterances[:4])
    writer(ssl_folder, narrow, precision=precision)(NAME, utterances[:4])
    tables = [output.read_table(NAME, columns=["layer_02"]) for output in (wide, narrow)]
    expected_ND, rounded_ND = (
        np.concatenate(frames_of(table["layer_02"])).astype(float) for table in tables
    )
    error = np.linalg.norm(rounded_ND - expected_ND) / np.linalg.norm(expected_ND)
    assert 0 < error < share
    assert narrow.read_record(NAME)["computed_in"] == precision


def test_overflow_of_float16_is_one_clear_error(tmp_path, ssl_folder, utterances):
    model = load_encoder(ssl_folder)
    with torch.no_grad():
        model.backbone.encoder.layers[1].final_layer_norm.bias[3] = 1e5
    model.save_pretrained(tmp_path / "loud")
    write = writer(tmp_path / "loud", Artifact(str(tmp_path)))
    with pytest.raises(FeatureRangeError, match=r"layer 2 of utterance 'train-00[01]'.*65504"):
        write(NAME, utterances[:2])
    assert not (tmp_path / NAME).exists()


def test_column_round_trip():
    frames = [np.arange(6, dtype=np.float16).reshape(3, 2), np.ones((1, 2), np.float16)]
    column = frames_column(frames)
    assert column.type == table_schemas.features((0,)).field("layer_00").type
    assert [np.array(row).tolist() for row in column.to_pylist()] == [f.tolist() for f in frames]
