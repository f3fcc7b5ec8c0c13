import os

import pytest
from faulty_s3 import local_s3

from pipeline.storage.artifacts import Artifact
from pipeline.storage.file_infos import file_infos
from pipeline.storage.folders import FileInfo


def test_local_files_have_size_and_time_and_others_have_nothing(tmp_path):
    file = tmp_path / "a.wav"
    file.write_bytes(b"12345")
    os.utime(file, ns=(7, 9))
    there = [str(file), str(tmp_path), str(file / "b"), "a\0b", str(tmp_path / "gone")]
    infos = file_infos(there)
    assert list(infos) == there
    assert list(infos.values()) == [FileInfo(5, "9"), None, None, None, None]


@pytest.fixture(scope="module")
def server():
    with local_s3() as url:
        yield url


@pytest.mark.parametrize("folders", [1, 2, 9])
def test_objects_have_size_and_etag_however_many_they_are(server, folders):
    """Few files are asked for, folders are listed, and many folders are listed as one tree."""
    output = Artifact(f"s3://bucket/corpus-{folders}")
    names = [f"{folder}/{number}.wav" for folder in range(folders) for number in range(5)]
    for name in names:
        with output.write(name) as file:
            file.write(name.encode())
    lone = [f"{output.uri}/0/0.wav", f"{output.uri}/gone/x.wav", f"{output.uri}/0/gone.wav"]
    for asked in (lone, [*(f"{output.uri}/{name}" for name in names), *lone[1:]]):
        infos = file_infos(asked)
        assert list(infos) == asked
        assert [address for address, info in infos.items() if info is None] == lone[1:]
        assert infos[lone[0]].num_bytes == len(names[0])
        assert len(infos[lone[0]].version) == 32
