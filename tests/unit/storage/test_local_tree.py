"""Local folders as their owners made them: links, loops, and what is neither file nor folder."""

import os
import socket

import pytest

from pipeline.storage.folders import FileInfo, Folder
from pipeline.storage.local_tree import MOST_WAYS


def write(path, content=b"x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def listing(path):
    return Folder.at(str(path)).listing()


def test_files_have_sizes_and_versions_that_change_when_they_are_overwritten(tmp_path):
    path = write(tmp_path / "a" / "b.wav", b"123")
    os.utime(path, ns=(5, 7))
    assert Folder.at(str(tmp_path)).files() == {"a/b.wav": FileInfo(3, "7")}
    assert Folder.at(str(tmp_path)).files("a") == {"b.wav": FileInfo(3, "7")}
    assert Folder.at(str(tmp_path)).info("a/b.wav") == FileInfo(3, "7")
    os.utime(path, ns=(5, 8))
    assert Folder.at(str(tmp_path)).info("a/b.wav") == FileInfo(3, "8")


def test_names_are_sorted(tmp_path):
    names = ["a/z", "a.b", "B", "a/b/c", "ä", "10", "9"]
    for name in names:
        write(tmp_path / name)
    assert list(listing(tmp_path).files) == sorted(names)


def test_linked_folders_and_files_are_listed_below_each_link(tmp_path):
    write(tmp_path / "store" / "disc" / "a.wav")
    root = tmp_path / "root"
    write(root / "own.wav")
    (root / "one").symlink_to(tmp_path / "store")
    (root / "two").symlink_to("../store")
    (root / "file.wav").symlink_to(tmp_path / "store" / "disc" / "a.wav")
    found = listing(root)
    assert list(found.files) == ["file.wav", "one/disc/a.wav", "own.wav", "two/disc/a.wav"]
    assert found.unusable == {}
    assert Folder.at(str(root)).folders() == ["one", "two"]


def test_a_link_into_a_folder_above_it_ends_the_search(tmp_path):
    root = tmp_path / "root"
    write(root / "a" / "b" / "x.wav")
    (root / "a" / "b" / "up").symlink_to(root)
    (root / "a" / "b" / "here").symlink_to(".")
    other = tmp_path / "other"
    write(other / "y.wav")
    (root / "a" / "other").symlink_to(other)
    (other / "back").symlink_to(root / "a")
    found = listing(root)
    assert list(found.files) == ["a/b/x.wav", "a/other/y.wav"]
    assert found.unusable == {}
    around = "the link leads to a folder around the one that is listed"
    found = listing(root / "a")
    assert list(found.files) == ["b/x.wav", "other/y.wav"]
    assert found.unusable == {"b/up": around}


def test_folders_that_all_link_to_each_other_are_not_searched_in_every_order(tmp_path):
    names = [f"{number:02d}" for number in range(10)]
    for name in names:
        write(tmp_path / name / "x.wav")
        for other in names:
            (tmp_path / name / f"to-{other}").symlink_to(tmp_path / other)
    found = listing(tmp_path)
    assert {f"{name}/x.wav" for name in names} <= set(found.files)
    assert len(found.files) <= (1 + MOST_WAYS) * len(names)
    assert set(found.unusable.values()) == {
        f"too many links lead to this folder: followed {MOST_WAYS}"
    }


def test_what_is_neither_file_nor_folder_is_named_with_its_reason(tmp_path):
    write(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "null.wav").symlink_to("/dev/null")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "itself").symlink_to(tmp_path / "itself")
    (tmp_path / "through").symlink_to(tmp_path / "a.wav" / "b")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # a socket's whole path has at most 107 bytes
        server.bind("socket.wav")
        found = listing(tmp_path)
    assert list(found.files) == ["a.wav"]
    assert found.unusable == {
        "gone.wav": "broken link: No such file or directory",
        "itself": "broken link: Too many levels of symbolic links",
        "null.wav": "not a regular file",
        "pipe.wav": "not a regular file",
        "socket.wav": "not a regular file",
        "through": "broken link: Not a directory",
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_named_and_the_others_are_listed(tmp_path):
    write(tmp_path / "open" / "a.wav")
    write(tmp_path / "closed" / "b.wav")
    (tmp_path / "closed").chmod(0)
    try:
        found = listing(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert list(found.files) == ["open/a.wav"]
    assert found.unusable == {"closed": "the folder cannot be read: Permission denied"}


def test_a_folder_that_disappears_meanwhile_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a" / "x.wav")
    write(tmp_path / "b" / "y.wav")
    scandir = os.scandir

    def failing(path):
        if str(path).endswith("/a"):
            raise FileNotFoundError(2, "No such file or directory")
        return scandir(path)

    monkeypatch.setattr("os.scandir", failing)
    found = listing(tmp_path)
    assert list(found.files) == ["b/y.wav"]
    assert found.unusable == {"a": "the folder cannot be read: No such file or directory"}


@pytest.fixture
def deep(tmp_path):
    """The name of a folder 1200 levels below; Python's own making and removing is recursive."""
    names = ["d/" * depth for depth in range(1, 1201)]
    for name in names:
        (tmp_path / name).mkdir()
    yield names[-1]
    for name in reversed(names):
        (tmp_path / name).rmdir()


def test_paths_deeper_than_the_interpreters_stack_are_listed(tmp_path, deep):
    write(tmp_path / deep / "x.wav")
    assert list(listing(tmp_path).files) == [f"{deep}x.wav"]
    (tmp_path / deep / "x.wav").unlink()


def test_folders_are_found_where_inodes_mean_nothing(tmp_path, monkeypatch):
    """As on some network drives."""
    write(tmp_path / "a" / "b" / "x.wav")
    monkeypatch.setattr("pipeline.storage.local_tree._identity", lambda _status: (0, 0))
    assert list(listing(tmp_path).files) == ["a/b/x.wav"]


def test_names_of_folders_among_links_that_lead_nowhere(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "itself").symlink_to("itself")
    (tmp_path / "gone").symlink_to("nowhere")
    write(tmp_path / "file")
    assert Folder.at(str(tmp_path)).folders() == ["a", "b"]


def test_what_is_no_folder_has_nothing_below_it(tmp_path):
    write(tmp_path / "a.wav")
    for path in ("a.wav", "gone", "a.wav/b"):
        assert listing(tmp_path / path).files == {}
        assert Folder.at(str(tmp_path / path)).folders() == []
