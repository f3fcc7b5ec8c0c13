"""Which filesystem an address leads to, for the project and for others in the same process."""

import subprocess
import sys

import pytest
import s3fs

from pipeline.storage.folders import filesystem_and_path
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
    assert filesystem_and_path("memory://a/b")[1] == "/a/b"
    with pytest.raises(ValueError, match="nothing"):
        filesystem_and_path("nothing://a")


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
