import hashlib
import os

import pytest

from pipeline.storage import text_digests as module
from pipeline.storage.artifacts import Artifact
from pipeline.storage.folders import Folder
from pipeline.storage.text_digests import text_digests


@pytest.fixture
def folder(tmp_path):
    for name in ("a.TextGrid", "b/a.TextGrid"):
        file = tmp_path / "ali" / name
        file.parent.mkdir(exist_ok=True, parents=True)
        file.write_text(name)
    return Folder.at(str(tmp_path / "ali"))


def digests(folder, tmp_path):
    return text_digests(folder, folder.files(), Artifact(str(tmp_path / "cache")))


def test_digests_are_those_of_the_content(folder, tmp_path):
    assert digests(folder, tmp_path) == {
        name: hashlib.sha256(name.encode()).hexdigest() for name in ("a.TextGrid", "b/a.TextGrid")
    }
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(module, "MANY", 1)


def test_many_files_are_read_once(folder, tmp_path, many, monkeypatch):
    before = digests(folder, tmp_path)
    read = []
    monkeypatch.setattr(module, "_sha256", lambda _folder, name: read.append(name) or "new")
    assert digests(folder, tmp_path) == before
    assert read == []


def test_a_change_is_seen_even_if_size_and_time_are_as_before(folder, tmp_path, many):
    file = tmp_path / "ali" / "a.TextGrid"
    status = file.stat()
    before = digests(folder, tmp_path)
    file.write_text("b.TextGrid")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = digests(folder, tmp_path)
    assert after["a.TextGrid"] == hashlib.sha256(b"b.TextGrid").hexdigest()
    assert after["b/a.TextGrid"] == before["b/a.TextGrid"]


def test_a_damaged_or_unwritable_memory_costs_only_time(folder, tmp_path, many):
    before = digests(folder, tmp_path)
    (table,) = (tmp_path / "cache").iterdir()
    table.write_bytes(b"PAR1")
    assert digests(folder, tmp_path) == before
    table.unlink()
    (tmp_path / "cache").rmdir()
    (tmp_path / "cache").write_text("in the way")
    assert digests(folder, tmp_path) == before
