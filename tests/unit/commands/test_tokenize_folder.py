"""New audio as a job: what is whole stays, what comes or changes is made, the rest has a reason."""

import json
import os
import shutil
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from faulty_s3 import local_s3
from support import save_tiny_tokenizer, tone_utterances
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.audio import audio_files
from pipeline.audio.decode import AudioAccessError, write_audio
from pipeline.audio.utterance import CorpusError
from pipeline.commands import tokenize_listing
from pipeline.config import ConfigError
from pipeline.runtime import session, shard_pool
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import MANIFEST, Artifact, ArtifactError
from pipeline.storage.s3 import ObjectStore
from pipeline.tokenizer import shard_tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return save_tiny_tokenizer(tmp_path_factory.mktemp("train_joint"))


@pytest.fixture
def made(monkeypatch) -> list[str]:
    """No Ray; the names of the shards that a worker is given, in their order."""
    names = []

    def run_shards(worker_class, arguments, shards, _cluster, _progress):
        worker = worker_class(**arguments)
        for shard in shards:
            names.append(Path(shard.name).stem)
            worker(shard.name, list(shard.utterances))

    monkeypatch.setattr(shard_pool, "run_shards", run_shards)
    monkeypatch.setattr(session, "ray_session", lambda _cluster: nullcontext())
    monkeypatch.setattr(tokenize_listing, "SHARD_UTTERANCES", 3)
    return names


@pytest.fixture
def audio(tmp_path):
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    tone_utterances(folder, "first", 4)
    tone_utterances(folder / "deep", "second", 3)
    return folder


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tokenize(trained, *audio, output):
    result = invoke("tokenize", trained, *audio, "--output", output)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def refusal(trained, *arguments, kind=ConfigError):
    result = invoke("tokenize", trained, *arguments)
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def rows(output):
    paths = sorted((output / "shards").iterdir())
    return {row["utt_id"]: row for path in paths for row in pq.read_table(path).to_pylist()}


def contents(output):
    return {path.name: path.read_bytes() for path in (output / "shards").iterdir()}


def rejects(output):
    table = pq.read_table(output / "rejects.parquet")
    assert table.schema.equals(table_schemas.REJECTS)
    return {row["source"]: row["reason"] for row in table.to_pylist()}


def test_units_are_those_of_the_one_process_command(trained, audio, made, tmp_path):
    long = 0.3 * np.random.default_rng(0).normal(size=16000 * 50)
    write_audio(str(audio / "long.flac"), long, 16000)
    output = tmp_path / "tokens"
    said = tokenize(trained, audio, output=output)
    assert made == ["000-00000", "000-00001", "000-00002"]
    assert "8 files, " in said
    assert all(
        pq.read_schema(path).equals(table_schemas.TOKENS) for path in (output / "shards").iterdir()
    )

    single = tmp_path / "tokens.parquet"
    files = sorted(audio.rglob("*.flac"))
    tokenize(trained, *files, output=single)
    found = rows(output)
    assert found == {row["utt_id"]: row for row in pq.read_table(single).to_pylist()}
    assert found["long"]["num_frames"] == 2499
    assert len({unit for row in found.values() for unit in row["units"]}) > 4
    assert {"deep/second-000", "first-003"} < set(found)
    manifest = json.loads((output / MANIFEST).read_text())
    assert manifest["rows"] == 8
    assert {f"shards/{name}.parquet" for name in made} < set(manifest["files"])


def test_shards_hold_so_much_audio_and_no_more(trained, audio, made, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenize_listing, "SHARD_SECONDS", 1.5)
    write_audio(str(audio / "long.flac"), np.zeros(32000), 16000)
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    listed = pq.read_table(output / "listings" / "000.parquet").to_pylist()
    seconds = {
        name: [one["duration"] for one in listed if Path(one["shard"]).stem == name]
        for name in made
    }
    assert len(listed) == sum(map(len, seconds.values())) == 8
    assert all(sum(shard) <= 1.5 or len(shard) == 1 for shard in seconds.values())
    assert seconds[made[-1]] == [2.0]
    assert max(map(len, seconds.values())) == 3


def test_a_second_call_makes_nothing_and_a_later_file_alone(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before, files = contents(output), json.loads((output / MANIFEST).read_text())
    made.clear()
    said = tokenize(trained, audio, output=output)
    assert "7 audio files, 0 of them new" in said
    assert made == []
    assert json.loads((output / MANIFEST).read_text()) == files

    shutil.copy(audio / "first-001.flac", audio / "a.flac")
    tokenize(trained, audio, output=output)
    assert made == ["001-00000"]
    after = contents(output)
    assert {name: after[name] for name in before} == before
    assert list(rows(output))[-1] == "a"
    assert len(rows(output)) == 8


def test_units_of_a_file_that_is_gone_are_removed_and_no_other_is_computed(
    trained, audio, made, tmp_path
):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before = rows(output)
    made.clear()
    (audio / "first-000.flac").unlink()
    said = tokenize(trained, audio, output=output)
    assert "found 6 audio files, 0 of them new" in said
    assert "removes the units of 1 files that are gone" in said
    assert "most of what was there" not in said
    assert made == []
    assert rows(output) == {name: row for name, row in before.items() if name != "first-000"}
    assert b"first-000" not in b"".join(
        path.read_bytes() for path in output.rglob("*") if path.is_file()
    )
    assert invoke("verify", output).exit_code == 0
    assert json.loads((output / MANIFEST).read_text())["rows"] == 6

    # A shard of which nothing is left goes; what is left is what a new output has.
    shutil.rmtree(audio / "deep")
    (audio / "first-001.flac").unlink()
    said = tokenize(trained, audio, output=output)
    assert "removes the units of 4 files that are gone, most of what was there: if a disk" in said
    assert made == []
    tokenize(trained, audio, output=tmp_path / "again")
    assert rows(output) == rows(tmp_path / "again")
    assert "removes" not in tokenize(trained, audio, output=output)


def test_a_changed_file_of_equal_size_is_computed_alone(trained, audio, made, tmp_path):
    first, second = (audio / f"{name}.wav" for name in ("v", "w"))
    for seed, path in enumerate((first, second)):
        noise = 0.3 * np.random.default_rng(seed).normal(size=8000)
        write_audio(str(path), noise, 16000, format="WAV")
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before = rows(output)
    assert before["v"]["units"] != before["w"]["units"]
    made.clear()
    first.write_bytes(second.read_bytes())
    said = tokenize(trained, audio, output=output)
    assert "found 9 audio files, 0 of them new, 1 changed" in said
    assert made == ["001-00000"]
    assert rows(output) == {**before, "v": {**before["w"], "utt_id": "v"}}

    # Again: the shard that it was alone in has no older units left.
    first.write_bytes(first.read_bytes()[:44] + bytes(16000))
    tokenize(trained, audio, output=output)
    assert rows(output)["v"]["units"] != before["w"]["units"]
    assert "0 of them new\n" in tokenize(trained, audio, output=output)


def test_like_names_in_two_folders_are_both_kept_under_ids_that_stay(
    trained, made, tmp_path, monkeypatch
):
    a, b, c = (tmp_path / name for name in ("A", "B", "deeper/B"))
    for number, folder in enumerate((a, b, c)):
        folder.mkdir(parents=True)
        noise = 0.3 * np.random.default_rng(number).normal(size=8000)
        write_audio(str(folder / "x.wav"), noise, 16000, format="WAV")
    both, grown = tmp_path / "both", tmp_path / "grown"
    tokenize(trained, a, b, output=both)
    assert set(rows(both)) == {"A/x", "B/x"}
    tokenize(trained, a, output=grown)
    units = rows(grown)["x"]["units"]
    tokenize(trained, a, b, output=grown)
    tokenize(trained, c, b, a, output=grown)
    assert rows(grown)["x"]["units"] == units
    assert set(rows(grown)) == {"x", "B/x", "deeper/B/x"}
    assert len({tuple(row["units"]) for row in rows(grown).values()}) == 3
    # Files that come later are named like those beside them.
    for folder in (a, b):
        shutil.copy(c / "x.wav", folder / "y.wav")
    shutil.copy(c / "x.wav", a / "x.wave")
    tokenize(trained, a / "y.wav", b / "y.wav", a / "x.wave", output=grown)
    assert set(rows(grown)) == {"x", "B/x", "deeper/B/x", "y", "B/y", "x.wave"}

    monkeypatch.chdir(tmp_path)
    tokenize(trained, "A/x.wav", "B/x.wav", "A/x.wav", output="one.parquet")
    assert pq.read_table("one.parquet")["utt_id"].to_pylist() == ["A/x", "B/x"]


def test_a_folder_where_nothing_is_found_keeps_its_units(trained, audio, made, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    tone_utterances(other, "third", 2)
    output = tmp_path / "tokens"
    tokenize(trained, audio, other, output=output)
    before = rows(output)
    # As if its disk were not mounted.
    shutil.move(other, tmp_path / "hidden")
    other.mkdir()
    said = refusal(trained, audio, other, "--output", output, kind=CorpusError)
    assert f"no audio found below {other}" in said
    assert "The output keeps the units of 9 files; if all audio is gone for good, delete it" in said
    said = tokenize(trained, audio, output=output)
    assert f"keeps the units of 2 files that cannot be looked at below {other}" in said
    assert rows(output) == before
    # One that is really gone from a folder that is not named.
    other.rmdir()
    shutil.move(tmp_path / "hidden", other)
    (other / "third-000.flac").unlink()
    said = tokenize(trained, audio, output=output)
    assert "removes the units of 1 files" in said
    assert before.keys() - rows(output).keys() == {"other/third-000"}


def test_files_of_a_folder_that_cannot_be_read_keep_their_units(
    trained, audio, made, tmp_path, monkeypatch
):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before = rows(output)
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    said = tokenize(trained, audio, output=output)
    assert "keeps the units of 3 files that cannot be looked at" in said
    assert rows(output) == before
    assert list(rejects(output)) == [str(audio / "deep")]


def test_a_stop_while_units_are_removed_loses_nothing(trained, audio, made, tmp_path, monkeypatch):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    made.clear()
    (audio / "first-000.flac").unlink()
    (audio / "deep" / "second-001.flac").unlink()
    write_table = Artifact.write_table

    def stopped(self, name, *arguments):
        if name.startswith("listings/"):
            raise KeyboardInterrupt
        return write_table(self, name, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Artifact, "write_table", stopped)
        assert "Stopped" in invoke("tokenize", trained, audio, "--output", output).output
    tokenize(trained, audio, output=output)
    assert made == []
    tokenize(trained, audio, output=tmp_path / "again")
    assert rows(output) == rows(tmp_path / "again")


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


def test_a_file_that_could_not_be_opened_is_tried_again(
    trained, audio, made, tmp_path, monkeypatch
):
    output = tmp_path / "tokens"
    probe = audio_files.probe_seconds

    def refused(uri):
        if uri.endswith("first-002.flac"):
            raise AudioAccessError("no permission to read the audio file")
        return probe(uri)

    with monkeypatch.context() as patch:
        patch.setattr(audio_files, "probe_seconds", refused)
        for expected in ("7 of them new", "0 of them new"):
            said = tokenize(trained, audio, output=output)
            assert expected in said
            assert "changed" not in said
    assert rejects(output) == {
        str(audio / "first-002.flac"): "no permission to read the audio file"
    }
    tokenize(trained, audio, output=output)
    assert "first-002" in rows(output)
    assert rejects(output) == {}


def test_a_file_that_a_worker_could_not_open_is_tried_again(
    trained, audio, made, tmp_path, monkeypatch
):
    """As on a machine without the disk that the others share."""
    output, lost = tmp_path / "tokens", str(audio / "first-002.flac")
    read = shard_tokenizer.read_whole

    def absent(uri, grid):
        if uri == lost:
            raise AudioAccessError("no such audio file")
        return read(uri, grid)

    with monkeypatch.context() as patch:
        patch.setattr(shard_tokenizer, "read_whole", absent)
        tokenize(trained, audio, output=output)
    assert rejects(output) == {lost: "no such audio file"}
    before = rows(output)
    made.clear()
    assert "0 of them new\n" in tokenize(trained, audio, output=output)
    assert made == ["001-00000"]
    assert rejects(output) == {}
    assert rows(output).keys() - before.keys() == {"first-002"}


def test_a_bucket_tells_changed_objects_by_their_etag(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    with local_s3():
        ObjectStore().put(f"{audio}/", "bucket/new/", recursive=True)
        tokenize(trained, "s3://bucket/new", output=output)
        assert "0 of them new\n" in tokenize(trained, "s3://bucket/new/", output=output)
        before = rows(output)
        content = bytearray((audio / "first-000.flac").read_bytes())
        content[-20:] = bytes(20)
        ObjectStore().pipe("bucket/new/first-000.flac", bytes(content))
        ObjectStore().rm("bucket/new/deep/second-000.flac")
        said = tokenize(trained, "s3://bucket/new", output=output)
    assert "0 of them new, 1 changed" in said
    assert "removes the units of 1 files" in said
    assert before.keys() - rows(output).keys() == {"deep/second-000", "first-000"}
    assert "cut short or damaged" in rejects(output)["s3://bucket/new/first-000.flac"]


def test_odd_files_have_reasons_and_cost_no_other(trained, audio, made, tmp_path):
    (audio / "empty.wav").touch()
    good = (audio / "first-000.flac").read_bytes()
    cut = audio / "cut.flac"
    cut.write_bytes(good[: len(good) // 2])
    write_audio(str(audio / "short.flac"), np.zeros(300), 16000)
    shutil.copy(audio / "first-001.flac", audio / "first-000.wav")
    output = tmp_path / "tokens"
    said = tokenize(trained, audio, output=output)
    assert "rejected 3 files" in said
    found = {Path(source).name: reason for source, reason in rejects(output).items()}
    assert set(found) == {"empty.wav", "cut.flac", "short.flac"}
    assert "is empty" in found["empty.wav"]
    assert "audio is cut short" in found["cut.flac"]
    assert found["short.flac"] == "shorter than one frame of 0.025 s"
    assert len(rows(output)) == 8
    assert rows(output)["first-000.wav"]["units"] == rows(output)["first-001"]["units"]

    # They are remembered.
    made.clear()
    said = tokenize(trained, audio, output=output)
    assert "found 11 audio files, 0 of them new\n" in said
    assert "rejected 3 files" in said
    assert made == []

    # Those that are mended are taken in, wherever they were found out.
    cut.write_bytes(good)
    (audio / "empty.wav").write_bytes(good)
    said = tokenize(trained, audio, output=output)
    assert "0 of them new, 2 changed" in said
    assert made == ["001-00000"]
    assert {Path(source).name for source in rejects(output)} == {"short.flac"}
    assert rows(output)["cut"]["units"] == rows(output)["first-000"]["units"]


def test_a_killed_job_goes_on(trained, audio, made, tmp_path, monkeypatch):
    peace, war = tmp_path / "peace", tmp_path / "war"
    tokenize(trained, audio, output=peace)
    run_shards = shard_pool.run_shards

    def killed(worker, arguments, shards, *more):
        run_shards(worker, arguments, shards[:1], *more)
        raise KeyboardInterrupt

    made.clear()
    with monkeypatch.context() as patch:
        patch.setattr(shard_pool, "run_shards", killed)
        assert "Stopped" in invoke("tokenize", trained, audio, "--output", war).output
    assert not (war / MANIFEST).exists()
    tokenize(trained, audio, output=war)
    assert made == ["000-00000", "000-00001", "000-00002"]
    assert contents(war) == contents(peace)


def test_a_moved_corpus_is_known_and_read_where_it_is_now(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    tokenize(trained, audio, output=output)
    before = contents(output)
    shutil.move(audio, tmp_path / "moved")
    (output / "shards" / "000-00001.parquet").unlink()
    made.clear()
    said = tokenize(trained, tmp_path / "moved", output=output)
    assert "0 of them new\n" in said
    assert made == ["000-00001"]
    assert contents(output) == before
    assert rejects(output) == {}

    # What is lost on the way is gone, what comes is named as before.
    shutil.move(tmp_path / "moved", audio)
    (audio / "first-000.flac").rename(audio / "last.flac")
    said = tokenize(trained, audio, output=output)
    assert "1 of them new\n" in said
    assert "removes the units of 1 files" in said
    assert rows(output).keys() == {
        "last",
        *(f"first-00{number}" for number in (1, 2, 3)),
        *(f"deep/second-00{number}" for number in range(3)),
    }


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


def test_nothing_usable_is_told(trained, made, tmp_path):
    (tmp_path / "bad.wav").touch()
    result = invoke("tokenize", trained, tmp_path / "bad.wav", "--output", tmp_path / "tokens")
    assert result.exit_code == 1
    assert "0 files" in result.output
    assert len(rejects(tmp_path / "tokens")) == 1
    again = invoke("tokenize", trained, tmp_path / "bad.wav", "--output", tmp_path / "tokens")
    assert "0 files" in again.output


def test_mistakes_are_named(trained, audio, made, tmp_path):
    output = tmp_path / "tokens"
    said = refusal(trained, tmp_path / "gone", "--output", output, kind=CorpusError)
    assert f"no audio found below {tmp_path / 'gone'}" in said
    assert "is a folder" in refusal(trained, audio, "--output", tmp_path / "tokens.parquet")
    asked = ("--output", tmp_path / "tokens.parquet", "--workers", 2)
    assert "give a folder as --output" in refusal(trained, audio / "first-000.flac", *asked)
    assert "does not belong to this command" in refusal(trained, audio, "--output", audio)
    features = tmp_path / "features" / "shards"
    features.mkdir(parents=True)
    (features / "train-00000.parquet").touch()
    assert "does not belong to this command" in refusal(trained, audio, "--output", features.parent)
    assert (features / "train-00000.parquet").exists()
    wrong = refusal(trained / "ssl", audio, "--output", output)
    assert "where a 'unit_tokenizer' is needed" in wrong
    assert not output.exists()
    tokenize(trained, audio, output=output)
    before = contents(output)
    other = save_tiny_tokenizer(tmp_path / "other", seed=1)
    assert "belongs to another tokenizer" in refusal(other, audio, "--output", output)
    assert contents(output) == before
    assert Artifact(str(output)).is_complete()
    (output / "listings" / "000.parquet").write_bytes(b"PAR1")
    said = refusal(trained, audio, "--output", output, kind=ArtifactError)
    assert "listings/000.parquet is damaged" in said
    result = invoke("verify", audio)
    assert isinstance(result.exception, ArtifactError)
    assert "is not an output folder" in str(result.exception)
