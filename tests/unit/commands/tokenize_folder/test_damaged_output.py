"""Damage of an output is found, mended, and never carried on."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from tokenized_folders import contents, invoke, refusal, rows, tokenize

from pipeline.audio.decode import write_audio
from pipeline.storage.artifacts import ArtifactError


def test_damage_is_not_carried_into_a_smaller_shard(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before = rows(output)
    listed = pq.read_table(output / "listings" / "000.parquet").to_pylist()
    [name] = {row["shard"] for row in listed if row["utt_id"] == "first-000"}
    content = bytearray((output / name).read_bytes())
    content[len(content) // 2] ^= 1
    (output / name).write_bytes(content)
    (audio / "first-000.flac").unlink()
    made.clear()
    tokenize(trained, audio, output=output)
    assert made == [Path(name).stem]
    assert rows(output) == {name: row for name, row in before.items() if name != "first-000"}


def test_damage_is_found_and_mended(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before = contents(output)
    assert invoke("verify", output).exit_code == 0
    for name in ("shards/000-00001.parquet", "listings/000.parquet", "rejects.parquet"):
        content = bytearray((output / name).read_bytes())
        content[len(content) // 2] ^= 1
        (output / name).write_bytes(content)
    result = invoke("verify", output, "--repair")
    assert result.exit_code == 0
    assert "3 damaged or missing" in result.output
    assert "3 deleted" in result.output
    assert invoke("verify", output).exit_code == 1
    made.clear()
    tokenize(trained, audio, output=output)
    assert made == ["000-00001"]
    assert contents(output) == before
    assert invoke("verify", output).exit_code == 0


def test_shards_of_a_lost_listing_leave_no_row_twice(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    (output / "listings" / "000.parquet").unlink()
    shutil.rmtree(audio / "deep")
    tokenize(trained, audio, output=output)
    paths = (output / "shards").iterdir()
    found = [utt_id for path in paths for utt_id in pq.read_table(path)["utt_id"].to_pylist()]
    assert sorted(found) == [f"first-00{number}" for number in range(4)]
    assert invoke("verify", output).exit_code == 0


def test_shards_of_a_lost_listing_do_not_stand_for_files_that_have_changed(
    trained, audio, made, tmp_path
):
    output = tmp_path / "tokens"
    for seed, name in enumerate("vw"):
        noise = 0.3 * np.random.default_rng(seed).normal(size=8000)
        write_audio(str(audio / f"{name}.wav"), noise, 16000, format="WAV")
    tokenize(trained, audio, output=output)
    before = rows(output)
    (output / "listings" / "000.parquet").unlink()
    (audio / "v.wav").write_bytes((audio / "w.wav").read_bytes())
    made.clear()
    tokenize(trained, audio, output=output)
    assert len(made) == 1
    assert rows(output) == {**before, "v": {**before["w"], "utt_id": "v"}}


def test_a_listing_of_an_earlier_version_is_refused(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before, listing = rows(output), output / "listings" / "000.parquet"
    pq.write_table(pq.read_table(listing).drop_columns(["root", "version"]), listing)
    said = refusal(trained, audio, "--output", output, kind=ArtifactError)
    assert "listings/000.parquet is damaged or of an earlier version" in said
    listing.unlink()
    made.clear()
    tokenize(trained, audio, output=output)
    assert made == []
    assert rows(output) == before
