"""What cannot be written is found before any work, and trying leaves nothing behind."""

import errno
import os
from pathlib import Path

import pytest
from faulty_s3 import FaultyS3, local_s3, use

from pipeline.storage import atomic
from pipeline.storage.artifacts import Artifact, StorageFullError
from pipeline.storage.writable import UnwritableError, require_writable


@pytest.fixture(scope="module")
def server():
    with local_s3() as url:
        yield url


def refusal(uri, kind=UnwritableError, **options) -> str:
    with pytest.raises(kind) as caught:
        require_writable(str(uri), **options)
    return str(caught.value)


def test_folders_and_files_that_can_be_written_stay_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "not" / "yet")
    (tmp_path / "old.parquet").write_bytes(b"old")
    before = sorted(tmp_path.rglob("*"))
    for folder in (
        ".",
        "new",
        "a/b/c",
        tmp_path / "new",
        f"file://{tmp_path}/new",
        "link",
        "n" * 255,
    ):
        require_writable(str(folder))
    for file in ("x.parquet", "a/b/x.parquet", "old.parquet", tmp_path / "x.parquet"):
        require_writable(str(file), as_file=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "old.parquet").read_bytes() == b"old"


def test_what_is_in_the_way_is_named(tmp_path):
    file = tmp_path / "file"
    file.touch()
    assert (
        refusal(file)
        == f"{file} cannot be written: {file} is a file, not a folder; name another output"
    )
    assert f"{file} is a file, not a folder" in refusal(file / "below" / "it")
    assert f"{file} is a file, not a folder" in refusal(file / "x.parquet", as_file=True)
    assert refusal(tmp_path, as_file=True).endswith("it is a folder; name a file")


def test_names_that_no_storage_takes(tmp_path):
    assert "is empty" in refusal("")
    assert "is empty" in refusal(" ", as_file=True)
    assert "File name too long" in refusal(tmp_path / ("n" * 256))
    # What is written has a longer name at first.
    assert "File name too long" in refusal(tmp_path / ("n" * 250), as_file=True)
    assert "null byte" in refusal(f"{tmp_path}/a\0b")
    assert "nowhere://x cannot be written: " in refusal("nowhere://x")
    assert "http://127.0.0.1:9/x cannot be written: " in refusal("http://127.0.0.1:9/x")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs Linux")
def test_a_file_system_that_takes_no_files():
    assert refusal("/proc/units") == "/proc/units cannot be written: /proc takes no new files"
    assert refusal("/proc/x.parquet", as_file=True).startswith("/proc/x.parquet cannot be")


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO])
def test_a_mount_that_refuses_says_why(tmp_path, monkeypatch, number):
    def refuses(_self, *_arguments, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuses)
    assert refusal(tmp_path / "new") == f"{tmp_path}/new cannot be written: {os.strerror(number)}"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, number):
    def full(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic.os, "fsync", full)
    said = refusal(tmp_path / "new", StorageFullError)
    assert said.startswith(f"no space left to write {tmp_path}/new: free some")
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_is_tried_too(server):
    Artifact("s3://bucket/units").write_json("kept.json", {})
    require_writable("s3://bucket/units")
    require_writable("s3://bucket/new/folder")
    require_writable("s3://bucket/x.parquet", as_file=True)
    assert Artifact("s3://bucket").names() == ["units/kept.json"]
    said = refusal("s3://gone/units")
    assert said.startswith("s3://gone/units cannot be written: ")
    assert "has no bucket 'gone': create it" in said
    assert "cannot be written" in refusal("s3://gone/x.parquet", as_file=True)
    assert "cannot be written" in refusal("s3://")


def test_a_bucket_that_refuses_says_so(server, monkeypatch):
    with FaultyS3(server, lambda method, _path: "denied" if method == "PUT" else None) as faulty:
        use(monkeypatch, faulty.url)
        said = refusal("s3://bucket/units")
    assert "denies access to s3://bucket/units/" in said
