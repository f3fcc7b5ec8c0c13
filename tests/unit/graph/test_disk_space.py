"""Work that does not fit is rejected, with what would fit."""

from types import SimpleNamespace

import pytest

from pipeline.graph import disk_space
from pipeline.graph.stage import Estimate
from pipeline.storage.artifacts import StorageFullError

HOURS = Estimate(
    bytes_written=1000, grows_with={"parts": 4, "hours": 100.0}, advice="a sample of them"
)


@pytest.fixture
def disk(monkeypatch):
    """A disk with so many bytes free."""

    def make(free):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda _folder: usage)

    return make


@pytest.mark.parametrize(
    ("needed", "free", "fits"),
    [
        (1000, 999, "3 of the 4 parts or 99.9 of the 100 hours"),
        (1000, 250, "1 of the 4 parts or 25 of the 100 hours"),
        (1200, 700, "2 of the 4 parts or 50 of the 100 hours"),
        (5000, 10, "0 of the 4 parts or 0 of the 100 hours"),
    ],
)
def test_the_message_says_what_would_fit(tmp_path, disk, needed, free, fits):
    disk(free)
    with pytest.raises(StorageFullError) as caught:
        disk_space.require_space(str(tmp_path), needed, HOURS)
    message = str(caught.value)
    assert f"about {disk_space.readable_bytes(needed)} would be written to {tmp_path}" in message
    assert f"has {free} B free" in message
    assert f"room for {fits}, or a sample of them. Name another storage" in message


def test_the_last_byte_decides(tmp_path, disk):
    disk(1000)
    disk_space.require_space(str(tmp_path), 1000, HOURS)
    with pytest.raises(StorageFullError):
        disk_space.require_space(str(tmp_path), 1001, HOURS)


def test_an_object_store_has_no_end(disk):
    disk(0)
    assert disk_space.free_bytes("s3://bucket") is None
    disk_space.require_space("s3://bucket", 10**15, HOURS)


def test_work_of_which_no_part_is_known_is_rejected_without_advice(tmp_path, disk):
    disk(0)
    with pytest.raises(StorageFullError, match=r"0 B free\. +Name another storage"):
        disk_space.require_space(str(tmp_path), 5, Estimate(bytes_written=5))


def test_free_space_is_that_of_the_folder_to_be(tmp_path, disk):
    disk(17)
    assert disk_space.free_bytes(str(tmp_path / "not" / "yet")) == 17
    assert disk_space.free_bytes(str(tmp_path / ("n" * 300))) == 17


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.56e12, "2.56 TB")]
)
def test_bytes_are_readable(count, text):
    assert disk_space.readable_bytes(count) == text
