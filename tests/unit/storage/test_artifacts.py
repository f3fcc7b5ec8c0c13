"""Outputs: complete or absent, in a local folder and on an object store."""

import errno
import hashlib
import os
import uuid
from pathlib import Path

import pyarrow as pa
import pytest
from faulty_s3 import local_s3

from pipeline.storage.artifacts import MANIFEST, METRICS, RECORDS, Artifact, ArtifactError, artifact


@pytest.fixture(scope="module")
def object_store():
    with local_s3():
        yield "s3://bucket"


@pytest.fixture(params=["local", "s3"])
def storage(request, tmp_path) -> str:
    if request.param == "local":
        return str(tmp_path)
    return f"{request.getfixturevalue('object_store')}/{uuid.uuid4().hex}"


@pytest.fixture
def output(storage) -> Artifact:
    return artifact(storage, "train_joint", "0123")


def fail_half_way(target) -> None:
    if isinstance(target, Path):
        (target / "half.txt").write_text("half")
    else:
        target.write(b"half")
    raise ZeroDivisionError


def fail_while(writer) -> None:
    with pytest.raises(ZeroDivisionError), writer as target:
        fail_half_way(target)


def test_files_tables_and_json_read_back(output):
    table = pa.table({"a": [1, 2], "b": ["x", "y"]})
    output.write_table("tables/t.parquet", table)
    output.write_json("note.json", {"ö": [1, None]})
    with output.write("raw.bin") as file:
        file.write(b"\x00\x01")

    assert output.read_table("tables/t.parquet") == table
    assert output.read_table("tables/t.parquet", columns=["b"]).column_names == ["b"]
    assert output.read_json("note.json") == {"ö": [1, None]}
    with output.read("raw.bin") as file:
        assert file.read() == b"\x00\x01"
    assert output.names() == ["note.json", "raw.bin", "tables/t.parquet"]
    assert output.names("tables") == ["tables/t.parquet"]
    assert output.names("nothing") == []


def test_a_write_that_fails_leaves_no_file_and_keeps_the_old_one(output):
    fail_while(output.write("new.bin"))
    assert not output.exists("new.bin")

    output.write_json("old.json", 1)
    fail_while(output.write("old.json"))
    assert output.read_json("old.json") == 1
    assert output.names() == ["old.json"]


def test_a_folder_appears_when_its_block_ends_well(output):
    with output.write_folder("model") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text("a")
        assert output.names() == []
    assert output.names() == ["model/sub/a.txt"]
    with output.read_folder("model", last="sub/a.txt") as folder:
        assert (folder / "sub" / "a.txt").read_text() == "a"


def test_a_new_folder_replaces_the_old_one_completely(output):
    with output.write_folder("model") as folder:
        (folder / "old.txt").write_text("old")
    fail_while(output.write_folder("model"))
    assert output.names() == ["model/old.txt"]
    with output.write_folder("model") as folder:
        (folder / "new.txt").write_text("new")
    assert output.names() == ["model/new.txt"]


def test_an_output_is_complete_when_its_manifest_exists_and_names_every_file(output):
    output.write_json(METRICS, {"wer": 0.5})
    assert not output.is_complete()
    output.finish({"stage": "train_joint"})
    assert output.is_complete()

    manifest = output.read_json(MANIFEST)
    with output.read(METRICS) as file:
        content = file.read()
    assert manifest == {
        "stage": "train_joint",
        "files": {METRICS: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}},
    }
    assert output.metrics() == {"wer": 0.5}


def test_what_only_an_unfinished_output_needs_goes_once_the_manifest_stands(output, monkeypatch):
    output.write_json("model.json", {})
    for name in ("checkpoints/step-2/values.json", "checkpoints/step-4/values.json"):
        output.write_json(name, {})
    output.write_json("checkpoints.json", {})
    with monkeypatch.context() as patched:
        patched.setattr(Artifact, "delete", _killed)
        with pytest.raises(KeyboardInterrupt):
            output.finish({}, ("checkpoints",))
    assert output.is_complete()  # a kill at this point costs no training
    output.finish({}, ("checkpoints", "absent"))
    assert output.names() == ["checkpoints.json", MANIFEST, "model.json"]
    assert set(output.read_json(MANIFEST)["files"]) == {"checkpoints.json", "model.json"}


def _killed(_output, _name):
    raise KeyboardInterrupt


def test_a_record_saves_reading_where_its_size_agrees(output):
    written = {}
    for name in ("kept", "cut", "bare", "odd"):
        written[name] = output.write_table(name, pa.table({"a": [name]}))
        output.write_record(name, {"note": 1, **written[name], "sha256": f"as {name} was written"})
    with output.write("cut") as file:
        file.write(b"short")
    output.delete_record("bare")
    output.write_json(f"{RECORDS}/odd.json", [1])
    assert output.recorded().keys() == {"kept", "cut"}
    output.finish({})
    files = output.read_json(MANIFEST)["files"]
    assert files["kept"] == {"bytes": written["kept"]["bytes"], "sha256": "as kept was written"}
    assert files["cut"] == {"bytes": 5, "sha256": hashlib.sha256(b"short").hexdigest()}
    assert (files["bare"], files["odd"]) == (written["bare"], written["odd"])


def test_no_metrics_is_no_error(output):
    assert output.metrics() == {}


@pytest.mark.parametrize("content", [b"", b'{"wer": 0.', b'"\xff"'])
def test_json_that_is_damaged_is_named_with_the_cure(output, content):
    with output.write("metrics.json") as file:
        file.write(content)
    cure = r"0123/metrics\.json is damaged: delete .*0123/manifest\.json and run again"
    with pytest.raises(ArtifactError, match=cure):
        output.metrics()


def test_what_is_missing_is_named_with_the_cure(output):
    cure = r"0123/gone\.json is missing: delete .*0123/manifest\.json and run again"
    with pytest.raises(ArtifactError, match=cure):
        output.read_json("gone.json")
    with (
        pytest.raises(ArtifactError, match="0123/gone is missing"),
        output.read_folder("gone"),
    ):
        pass


def test_delete_takes_files_and_folders_and_ignores_absence(output):
    output.write_json("folder/a.json", 1)
    output.delete("folder")
    output.delete("folder")
    assert output.names() == []


def test_a_local_storage_is_absolute_so_that_workers_find_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert artifact("runs", "s", "d").uri == f"{tmp_path}/runs/s/d"
    assert artifact("s3://bucket/prefix/", "s", "d").uri == "s3://bucket/prefix/s/d"


def test_what_a_killed_writer_left_does_not_belong_to_the_output(tmp_path):
    output = artifact(str(tmp_path), "stage", "d")
    output.write_json("good.json", 1)
    (Path(output.path()) / ".bad.json.12ab34cd.aside").write_text("half")
    folder = Path(output.path(".model.12ab34cd.aside"))
    folder.mkdir()
    (folder / "weights").write_text("half")
    output.finish({})
    assert set(output.read_json(MANIFEST)["files"]) == {"good.json"}


def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    output = artifact(str(tmp_path), "stage", "d")
    output.write_json("state.json", "old")
    child = os.fork()
    if child == 0:
        with output.write("state.json") as file:
            file.write(b'"ne')
            file.flush()
            os._exit(9)
    os.waitpid(child, 0)
    assert output.read_json("state.json") == "old"
    assert output.names() == ["state.json"]


def test_files_in_a_linked_folder_belong_to_the_output(tmp_path):
    """Somebody moved them to another disk."""
    output = Artifact(str(tmp_path / "output"))
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "0.parquet").write_text("123")
    output.write_json("a.json", 1)
    (tmp_path / "output" / "shards").symlink_to(tmp_path / "disk")
    assert output.sizes() == {"a.json": 1, "shards/0.parquet": 3}
    assert output.names("shards") == ["shards/0.parquet"]


@pytest.mark.parametrize(
    "name", ["a::b", "[ab]*", "~", "file:x", "memory::y", "a#b?c%41 d", "日本"]
)
def test_a_storage_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    output = artifact(name, "stage", "0" * 16)
    assert output.uri == f"{tmp_path}/{name}/stage/{'0' * 16}"
    output.write_json("[b]*.json", 1)
    output.write_json("b.json", 2)
    output.delete("[b]*.json")
    output.finish({})
    assert output.names() == ["b.json", "manifest.json"]


def test_of_two_that_replace_a_folder_at_once_one_is_kept_whole(tmp_path, monkeypatch):
    output = Artifact(str(tmp_path))
    rename = Path.rename

    def too_late(self: Path, target: Path) -> Path:
        """Another writer puts its folder there after this one has moved the old one away."""
        if self.name == "model":
            raise FileNotFoundError(errno.ENOENT, "moved by another")
        return rename(self, target)

    for text in ("theirs", "mine"):
        with output.write_folder("model") as folder:
            (folder / "config.json").write_text(text)
            (folder / text).write_text(text)
        monkeypatch.setattr(Path, "rename", too_late)
    assert output.names() == ["model/config.json", "model/theirs"]
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_what_another_process_deletes_at_the_same_time_is_deleted(tmp_path, monkeypatch):
    output = Artifact(str(tmp_path))
    output.write_json("a.json", 1)
    monkeypatch.setattr(Artifact, "exists", lambda *_: True)
    output.delete("a.json")
    output.delete("a.json")
    assert output.names() == []
