"""A folder that changes: what is whole stays, what comes or changes is made, what is gone goes."""

import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
from faulty_s3 import local_s3
from support import tone_utterances
from tokenized_folders import contents, invoke, refusal, rejects, rows, tokenize

from pipeline.audio import audio_files
from pipeline.audio.decode import AudioAccessError, write_audio
from pipeline.audio.utterance import CorpusError
from pipeline.storage.artifacts import MANIFEST, Artifact
from pipeline.storage.s3 import ObjectStore
from pipeline.tokenizer import shard_tokenizer


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
