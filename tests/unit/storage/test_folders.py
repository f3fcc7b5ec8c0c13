"""Which filesystem an address leads to, for the project and for others in the same process."""

import subprocess
import sys

import pytest
import s3fs

from pipeline.storage.folders import AddressError, Folder, filesystem_and_path
from pipeline.storage.s3 import ObjectStore


@pytest.mark.parametrize(
    ("uri", "path"),
    [("s3://bucket/a/b.json", "bucket/a/b.json"), ("s3://bucket/a/", "bucket/a")],
)
def test_s3_is_our_own(uri, path):
    filesystem, found = filesystem_and_path(uri)
    assert isinstance(filesystem, ObjectStore)
    assert found == path


def test_a_local_path_and_other_schemes_are_fsspecs(tmp_path):
    assert filesystem_and_path(str(tmp_path))[1] == str(tmp_path)
    assert filesystem_and_path(f"file://{tmp_path}")[1] == str(tmp_path)
    assert filesystem_and_path("memory://a/b")[1] == "/a/b"
    with pytest.raises(AddressError, match="scheme nothing://"):
        filesystem_and_path("nothing://a")


@pytest.mark.parametrize(
    "name", ["~", "~root", "a::b", "memory::c", "file:d", "[e]*", "x/http://f"]
)
def test_a_local_path_means_itself(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert filesystem_and_path(name)[1] == f"{tmp_path}/{name.replace('//', '/')}"
    assert Folder.at(name).uri == f"{tmp_path}/{name.replace('//', '/')}"


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("/file", "/", "file"),
        ("/a/file", "/a", "file"),
        ("s3://bucket/file", "s3://bucket", "file"),
        ("s3://bucket/a::b/c", "s3://bucket/a::b", "c"),
        ("s3://bucket", "s3://", "bucket"),
        ("memory://file", "memory://", "file"),
    ],
)
def test_the_folder_around_a_file(uri, folder, name):
    found = Folder.around(uri)
    assert found == (Folder(folder), name)
    assert filesystem_and_path(found[0].locate(name)) == filesystem_and_path(uri)


def test_a_relative_file_is_in_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Folder.around("file") == (Folder(str(tmp_path)), "file")
    assert Folder.around("a/file") == (Folder(f"{tmp_path}/a"), "file")


def test_files_in_the_root_have_their_names():
    assert Folder.at("/").locate("a/b") == "/a/b"
    assert Folder.at("/").info("etc/passwd") == Folder.at("/etc").info("passwd") != None  # noqa: E711


def test_a_linked_file_belongs_to_the_folder_of_its_link(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "123").write_text("x")
    (tmp_path / "manifest.jsonl").symlink_to("store/123")
    (tmp_path / "link").symlink_to("store")
    assert Folder.around(f"{tmp_path}/manifest.jsonl") == (Folder(str(tmp_path)), "manifest.jsonl")
    assert Folder.around(f"{tmp_path}/link/123") == (Folder(f"{tmp_path}/store"), "123")


def test_what_is_no_file_has_no_info(tmp_path):
    folder = Folder.at(str(tmp_path))
    (tmp_path / "a").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    names = ("gone", "a/b", "folder", "loop", "n" * 300, "a\0b")
    assert [folder.info(name) for name in names] == [None] * len(names)
    assert folder.info("a") is not None


def test_a_folder_cannot_have_a_nul():
    for way in (Folder.at, Folder.around):
        with pytest.raises(AddressError, match=r"'a\\x00b' is not a path: it holds a NUL"):
            way("a\0b")


def test_other_code_in_the_process_keeps_its_own_s3():
    code = """
import fsspec, s3fs.core
handler = s3fs.core.CUSTOM_ERROR_HANDLER
from pipeline.storage.folders import filesystem_and_path
filesystem_and_path("s3://bucket/key")
assert type(fsspec.filesystem("s3")) is s3fs.S3FileSystem
assert s3fs.core.CUSTOM_ERROR_HANDLER is handler
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert issubclass(ObjectStore, s3fs.S3FileSystem)


def test_importing_the_package_imports_no_filesystem():
    code = "import sys, pipeline; assert not {'fsspec', 's3fs', 'botocore'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
