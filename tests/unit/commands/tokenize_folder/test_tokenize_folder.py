"""A folder of audio as a job: its units, once, and a reason for what has none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from support import save_tiny_tokenizer
from tokenized_folders import contents, invoke, refusal, rejects, rows, tokenize

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import CorpusError
from pipeline.commands import tokenize_listing
from pipeline.runtime import shard_pool
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import MANIFEST, Artifact, ArtifactError


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
