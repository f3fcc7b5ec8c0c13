"""S3 through a server that fails and cuts connections: objects are complete or absent."""

import signal
import socket
import subprocess
import sys
import textwrap
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from faulty_s3 import FAULTS, FaultyS3, local_s3, seeded, use

from pipeline.errors import is_for_user
from pipeline.storage.artifacts import MANIFEST, Artifact, ArtifactError
from pipeline.storage.failures import StorageDeniedError, StorageError
from pipeline.storage.s3 import ObjectStore

ROOT = Path(__file__).resolve().parents[2]
PART_BYTES = 5 << 20  # the least that S3 takes
LARGE = np.random.default_rng(0).bytes(2 * PART_BYTES + 12345)


@pytest.fixture(scope="module")
def server():
    with local_s3() as url:
        yield url


@pytest.fixture(autouse=True)
def small_parts_soon_repeated(monkeypatch):
    monkeypatch.setattr(ObjectStore, "default_block_size", PART_BYTES)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # else SlowDown costs half a second each
    ObjectStore.clear_instance_cache()


@pytest.fixture
def output(server) -> Artifact:
    return Artifact(f"s3://bucket/{uuid.uuid4().hex}")


@pytest.fixture
def through(server, monkeypatch):
    """Send this test's requests through a proxy with a plan."""
    proxies = []

    def start(plan) -> FaultyS3:
        proxy = FaultyS3(server, plan).__enter__()
        proxies.append(proxy)
        use(monkeypatch, proxy.url)
        return proxy

    yield start
    for proxy in proxies:
        proxy.__exit__()


def uploads() -> list[str]:
    """Keys of uploads that are neither complete nor aborted."""
    answer = ObjectStore().call_s3("list_multipart_uploads", Bucket="bucket")
    return [upload["Key"] for upload in answer.get("Uploads", [])]


def write_large(output: Artifact, then=lambda: None) -> None:
    """Three parts, the last of which goes when the file is closed."""
    with output.write("large.bin") as file:
        file.write(LARGE)
        then()


def write_model(output: Artifact, text: str) -> None:
    with output.write_folder("model") as folder:
        (folder / "config.json").write_text(text)
        (folder / "weights").write_text(text)


def content(output: Artifact, name: str) -> bytes:
    with output.read(name) as file:
        return file.read()


def test_content_is_complete_although_three_of_ten_requests_fail(output, through):
    table = pa.table({"a": list(range(50_000)), "b": np.random.default_rng(1).random(50_000)})
    proxy = through(seeded(0.3, seed=7))

    write_large(output)
    for number in range(10):
        output.write_table(f"shards/{number}.parquet", table)
        output.write_json(f"note-{number}.json", {"number": number})
    with output.write_folder("model") as folder:
        (folder / "config.json").write_text("{}")
        (folder / "model.safetensors").write_bytes(LARGE)
    output.delete("note-9.json")
    output.finish({"stage": "s"})

    assert content(output, "large.bin") == LARGE
    with output.read_folder("model") as folder:
        assert (folder / "model.safetensors").read_bytes() == LARGE
    for number in range(9):
        assert output.read_table(f"shards/{number}.parquet", columns=["b"]) == table.select(["b"])
        assert output.read_json(f"note-{number}.json") == {"number": number}
    assert not output.exists("note-9.json")
    files = output.read_json(MANIFEST)["files"]
    assert len(files) == 1 + 10 + 9 + 2
    assert files["large.bin"] == files["model/model.safetensors"]
    assert uploads() == []
    assert all(proxy.faults[fault] > 2 for fault in FAULTS), proxy.faults


def test_bytes_read_in_pieces_are_those_written(output, through):
    write_large(output)
    through(seeded(0.3, seed=3))
    with output.read("large.bin") as file:
        file.seek(len(LARGE) - 1000)
        assert file.read() == LARGE[-1000:]
        file.seek(4321)
        assert file.read(1000) == LARGE[4321:5321]


WRITER = """
    import os, signal, sys
    from pipeline.storage.artifacts import Artifact
    from pipeline.storage.s3 import ObjectStore

    ObjectStore.default_block_size = 5 << 20
    output = Artifact(sys.argv[1])
    with output.write("large.bin") as file:
        file.write(bytes(12 << 20))
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_killed_in_an_upload_leaves_no_object_and_its_parts_are_swept(output):
    code = textwrap.dedent(WRITER)
    killed = subprocess.run([sys.executable, "-c", code, output.uri], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists("large.bin")
    assert output.names() == []
    assert uploads() == [output.path("large.bin").removeprefix("bucket/")]

    # moto lets every upload begin in 2010.
    output.filesystem.abort_uploads(output.path(), min_seconds=3e9)
    assert len(uploads()) == 1, "an upload that just began may belong to a running writer"
    Artifact(f"{output.uri}0").finish({})
    assert len(uploads()) == 1, "it belongs to another output"
    output.finish({})
    assert uploads() == []
    assert output.read_json(MANIFEST) == {"files": {}}


def test_an_exception_in_an_upload_aborts_it_and_keeps_the_old_object(output):
    output.write_json("large.bin", "old")
    begun: list[str] = []

    def fail() -> None:
        begun.extend(uploads())
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_large(output, fail)
    assert begun
    assert uploads() == []
    assert output.read_json("large.bin") == "old"


def on_completion(*faults: str):
    """A plan for the requests that complete an upload: these faults one after the other."""
    coming = iter(faults)

    def plan(method: str, path: str) -> str | None:
        return next(coming, None) if method == "POST" and "uploadId=" in path else None

    return plan


def test_an_upload_that_cannot_be_completed_is_aborted(output, through, monkeypatch):
    monkeypatch.setattr(ObjectStore, "retries", 2)
    proxy = through(on_completion("internal_error", "internal_error"))
    with pytest.raises(StorageError, match=r"InternalError: .*completed work is kept"):
        write_large(output)
    assert proxy.faults["internal_error"] == 2
    assert uploads() == []
    assert output.names() == []


def test_an_upload_whose_last_answer_was_lost_is_complete(output, through):
    proxy = through(on_completion("lost_answer", "no_such_upload"))
    write_large(output)
    assert proxy.faults.total() == 2
    assert content(output, "large.bin") == LARGE


def test_an_upload_that_somebody_else_aborted_is_an_error(output, through):
    output.write_json("large.bin", "old")
    through(on_completion("no_such_upload"))
    with pytest.raises(FileNotFoundError):
        write_large(output)
    assert uploads() == []
    assert output.read_json("large.bin") == "old"


def test_a_partly_written_folder_is_reported_as_missing(output, through, monkeypatch):
    write_model(output, "old")
    monkeypatch.setattr(ObjectStore, "retries", 2)
    through(lambda method, path: "denied" if method == "PUT" and "config.json" in path else None)
    with pytest.raises(StorageDeniedError):
        write_model(output, "new")
    assert output.names() == ["model/weights"]
    with pytest.raises(ArtifactError, match="model is missing"), output.read_folder("model"):
        pass


def test_what_another_process_wrote_or_deleted_is_seen_at_once(output):
    output.write_json("folder/a.json", 1)
    assert output.names() == ["folder/a.json"]
    assert not output.exists("folder/b.json")
    other = ObjectStore(skip_instance_cache=True)
    other.pipe_file(output.path("folder/b.json"), b"22")
    assert output.exists("folder/b.json")
    assert output.names("folder") == ["folder/a.json", "folder/b.json"]
    assert output.filesystem.isdir(output.path("folder"))
    other.pipe_file(output.path("folder/b.json"), b"333")
    assert content(output, "folder/b.json") == b"333"
    other.rm(output.path("folder"), recursive=True)
    assert not output.exists("folder/a.json")
    assert output.names() == []


def refused(write, kind=StorageError) -> str:
    with pytest.raises(kind) as caught:
        write()
    assert is_for_user(caught.value)
    return str(caught.value)


def test_a_missing_bucket_is_named_and_not_created(server):
    output = Artifact("s3://bukcet/runs")
    assert "has no bucket 'bukcet': create it" in refused(output.is_complete)
    assert "has no bucket 'bukcet'" in refused(lambda: output.write_json("a.json", 1))
    assert not ObjectStore().exists("bukcet")


def test_denied_access_is_reported_with_the_address_and_the_cure(output, through):
    through(lambda *_request: "denied")
    message = refused(lambda: output.write_json("a.json", 1), StorageDeniedError)
    assert f"denies access to {output.uri}/a.json (AccessDenied: as planned)" in message
    assert "the credentials need the rights to" in message


def test_missing_credentials_are_asked_for(output, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    ObjectStore.clear_instance_cache()
    message = refused(output.is_complete)
    assert message.startswith("there are no credentials for s3://bucket/")
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in message


def test_an_endpoint_that_does_not_answer_is_named(output, monkeypatch):
    monkeypatch.setattr(ObjectStore, "retries", 2)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        use(monkeypatch, url)
        message = refused(output.is_complete)
    assert f"cannot be reached at {url}" in message
    assert "check AWS_ENDPOINT_URL" in message
    ObjectStore.clear_instance_cache()


def test_an_endpoint_that_is_not_an_address_is_reported(output, monkeypatch):
    use(monkeypatch, "localhost-9000")
    assert "AWS_ENDPOINT_URL (http://host:port)" in refused(output.is_complete)


def test_a_name_is_no_pattern(server):
    like, other = Artifact("s3://bucket/run[12]"), Artifact("s3://bucket/run1")
    for output in (like, other):
        for name in ("model/w*.json", "model/wx.json", "a.json"):
            output.write_json(name, 1)
    like.delete("model/w*.json")
    assert like.names() == ["a.json", "model/wx.json"]
    like.delete("model")
    assert like.names() == ["a.json"]
    assert other.names() == ["a.json", "model/w*.json", "model/wx.json"]
