"""Paths as people and disks make them: each is read, or has a true reason; none ends the work."""

import io
import os
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import numpy as np
import pytest
import soundfile
from faulty_s3 import FaultyS3, local_s3, use
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio.audio_files import list_audio, probe_all
from pipeline.audio.decode import AudioError, AudioStorageError, decode
from pipeline.audio.utterance import Reject, rejects_to_table
from pipeline.storage.folders import printable
from pipeline.storage.s3 import ObjectStore

RATE = 16000
NOT_UTF_8 = os.fsdecode(b"caf\xe9.wav")


def wav() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.full(1600, 0.1), RATE, format="WAV")
    return file.getvalue()


def write(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wav())
    return path


def reason(uri: str) -> str:
    with pytest.raises(AudioError) as caught:
        decode(uri)
    return str(caught.value)


ODD_NAMES = [
    "a::b.wav", "memory::b.wav", "simplecache::s3:", "file:a.wav", "local:a.wav", "x:/y.wav", "~.wav",
    "~root", "a#b.wav", "a?b.wav", "a%41.wav", "two  words .wav", "[ab]*.wav", "{a,b}.wav", "line\nend",
    "\x1b[31m.wav", "-rf.wav", "..wav", "c:\\d.wav", "日本.wav", NOT_UTF_8, "w" * 251 + ".wav",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES, ids=ascii)
def test_a_name_means_itself(tmp_path, monkeypatch, name):
    write(tmp_path / name)
    assert decode(str(tmp_path / name))[0].shape == (1600, 1)
    assert decode(f"file://{tmp_path}/{name}")[0].shape == (1600, 1)
    monkeypatch.chdir(tmp_path)
    assert decode(name)[0].shape == (1600, 1)


def test_a_path_with_a_scheme_further_on_is_local(tmp_path):
    write(tmp_path / "http:" / "host" / "a.wav")
    assert decode(f"{tmp_path}/http://host/a.wav")[0].shape == (1600, 1)


def test_a_path_that_leads_nowhere_is_a_reject(tmp_path):
    write(tmp_path / "a.wav")
    (tmp_path / "itself.wav").symlink_to("itself.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere")
    reasons = {
        "b.wav": "no such audio file",
        "gone.wav": "no such audio file",
        NOT_UTF_8: "no such audio file",
        "a.wav/b.wav": "no such audio file: Not a directory",
        "itself.wav": "no such audio file: Too many levels of symbolic links",
        "n" * 256: "no such audio file: File name too long",
        "n/" * 2048 + "a.wav": "no such audio file: File name too long",
        "a\0.wav": "the address cannot be read: embedded null byte",
    }
    assert {name: reason(f"{tmp_path}/{name}") for name in reasons} == reasons


def test_what_is_not_a_file_is_not_opened(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "null.wav").symlink_to("/dev/null")
    assert reason(f"{tmp_path}/folder.wav") == "not readable as audio: it is a folder"
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path)  # a socket's whole path has at most 107 bytes
        server.bind("socket.wav")
        for name in ("pipe.wav", "null.wav", "socket.wav"):
            found = reason(f"{tmp_path}/{name}")
            assert found == "not readable as audio: it is not a regular file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_a_reject(tmp_path):
    write(tmp_path / "a.wav").chmod(0)
    assert reason(f"{tmp_path}/a.wav") == "no permission to read the audio file"
    write(tmp_path / "closed" / "b.wav")
    (tmp_path / "closed").chmod(0)
    try:
        assert reason(f"{tmp_path}/closed/b.wav") == "no permission to read the audio file"
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("nothing://a.wav", "Protocol not known"),
        ("HTTP://host/a.wav", "Protocol not known"),
        ("gs://bucket/a.wav", "install gcsfs"),
        ("simplecache://a.wav", "scheme simplecache://"),
        ("github://a.wav", "scheme github://"),
        ("zip://a.wav::memory://b.zip", ""),
    ],
)
def test_a_scheme_that_cannot_be_used_is_a_reject(uri, found):
    message = reason(uri)
    assert message.startswith("the address cannot be read: ")
    assert found in message


class Answering(BaseHTTPRequestHandler):
    """Answers with the status that the path names."""

    def serve(self):
        status = int(self.path.split("/")[1])
        content = wav() if status == 200 else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_GET = do_HEAD = serve

    def log_message(self, *_arguments):
        """Say nothing."""


@pytest.fixture(scope="module")
def http():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as web:
        Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}"
        web.shutdown()


def test_http(http):
    for name in ("a.wav", "a::b.wav", "a.wav?x=1", "[a]*.wav", "a%20b.wav"):
        assert decode(f"{http}/200/{name}")[0].shape == (1600, 1)
    for status in (404, 410):
        assert reason(f"{http}/{status}/a.wav") == "no such audio file"
    for status in (401, 403):
        assert reason(f"{http}/{status}/a.wav") == "no permission to read the audio file"
    for status in (429, 500, 503):
        with pytest.raises(AudioStorageError, match=f"a.wav cannot be fetched: {status}"):
            decode(f"{http}/{status}/a.wav")


def unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_a_server_that_does_not_answer_may_later():
    with pytest.raises(AudioStorageError, match=r"a\.wav cannot be fetched: .*; run again"):
        decode(f"http://127.0.0.1:{unused_port()}/a.wav")


class FailingDisk(io.FileIO):
    """Delivers the first bytes, and later some more."""

    failure = OSError(5, "Input/output error")
    good_bytes = 4096
    recovered = False

    def read(self, size=-1):
        if self.tell() + max(size, 0) > self.good_bytes:
            raise self.failure
        return super().read(size)


@pytest.mark.parametrize("number", [5, 116])  # EIO, ESTALE
def test_a_disk_that_fails_is_not_a_damaged_file(tmp_path, monkeypatch, number):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, RATE), RATE)
    path.write_bytes(path.read_bytes()[:9999])  # libsndfile sees a short file where reads fail
    assert "cut short" in reason(str(path))
    monkeypatch.setattr(FailingDisk, "failure", OSError(number, os.strerror(number)))
    monkeypatch.setattr("io.FileIO", FailingDisk)
    with pytest.raises(AudioStorageError, match="run again"):
        decode(str(path))


def test_a_sound_file_that_is_refused_for_its_length_is_not_read_through(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(RATE), RATE)
    monkeypatch.setattr("io.FileIO", FailingDisk)
    with pytest.raises(AudioError, match="too long"):
        decode(str(tmp_path / "a.wav"), max_seconds=0.5)


# S3


@pytest.fixture(scope="module")
def server():
    with local_s3() as url:
        yield url


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(ObjectStore, "retries", 1)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


ODD_KEYS = [
    "a::b.wav", "memory::b.wav", "s3://bucket/b.wav", "a#b.wav", "a?b.wav", "a%41+ &.wav", "[ab]*.wav",
    "v?versionId=3.wav", "d//e.wav", "q/../r.wav", "./s.wav", "~/t.wav", "日本.wav", "tab\t.wav",
]  # fmt: skip


def test_a_key_means_itself(server):
    for key in ODD_KEYS:
        ObjectStore().call_s3("put_object", Bucket="bucket", Key=f"odd/{key}", Body=wav())
        assert decode(f"s3://bucket/odd/{key}")[0].shape == (1600, 1), key
    files, rejects = list_audio(["s3://bucket/odd"])
    assert [file.uri for file in files] == sorted(f"s3://bucket/odd/{key}" for key in ODD_KEYS)
    assert rejects == []
    assert probe_all([file.uri for file in files]) == [0.1] * len(ODD_KEYS)


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("s3://bucket/gone.wav", "no such audio file"),
        ("s3://bukcet/a.wav", "the address cannot be read: .* has no bucket 'bukcet'"),
        ("s3://b ucket/a.wav", "the address cannot be read: .* is not an address: .*bucket name"),
        (f"s3://bucket/{NOT_UTF_8}", "the address cannot be read: .* is not an address"),
        (f"s3://bucket/{'k' * 1025}", "the address cannot be read: a key has at most 1024 bytes"),
        ("s3://bucket", "not readable as audio: it is a folder"),
        ("s3://", "not readable as audio: it is a folder"),
    ],
    ids=ascii,
)
def test_an_address_of_nothing_is_a_reject(server, uri, found):
    with pytest.raises(AudioError, match=f"(?s)^{found}"):
        decode(uri)


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("denied", AudioError, "no permission to read the audio file: .*403"),
        ("internal_error", AudioStorageError, "cannot be reached .*500"),
        ("slow_down", AudioStorageError, "cannot be reached .*503"),
        ("cut_request", AudioStorageError, "cannot be reached"),
        ("cut_answer", AudioStorageError, "cannot be fetched"),
    ],
)
def test_only_a_store_that_may_recover_is_tried_again(server, monkeypatch, fault, error, message):
    ObjectStore().call_s3("put_object", Bucket="bucket", Key="a.wav", Body=wav())
    with FaultyS3(server, lambda *_: fault) as proxy:
        use(monkeypatch, proxy.url)
        with pytest.raises(error, match=message):
            decode("s3://bucket/a.wav")
    monkeypatch.undo()
    use(monkeypatch, server)


def test_missing_credentials_are_no_files_fault(server, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    ObjectStore.clear_instance_cache()
    with pytest.raises(AudioStorageError, match="there are no credentials"):
        decode("s3://bucket/a.wav")
    monkeypatch.undo()
    ObjectStore.clear_instance_cache()


# Names in listings and tables


def test_a_folder_of_everything_is_listed_with_a_reason_for_each_bad_path(tmp_path):
    root, store = tmp_path / "root", tmp_path / "store"
    write(root / "good.wav")
    write(store / "linked.wav")
    write(root / NOT_UTF_8)
    (root / "link").symlink_to(store)
    (root / "loop").symlink_to(root)
    (root / "itself.wav").symlink_to("itself.wav")
    (root / "gone").symlink_to("/nowhere")
    os.mkfifo(root / "pipe.wav")
    (root / "folder.wav").mkdir()
    files, rejects = list_audio([str(root)])
    assert [file.stem for file in files] == ["good", "link/linked"]
    rows = rejects_to_table(rejects).to_pylist()
    assert {row["source"].removeprefix(f"{root}/"): row["reason"] for row in rows} == {
        r"caf\xe9.wav": "name is not UTF-8: rename the file or its folder",
        "gone": "broken link: No such file or directory",
        "itself.wav": "broken link: Too many levels of symbolic links",
        "pipe.wav": "not a regular file",
    }
    assert {row["utt_id"] for row in rows} == {None}


NAMES = st.binary(min_size=1, max_size=60).filter(lambda name: not {b"/"[0], 0} & set(name))


@given(st.sets(NAMES, min_size=1, max_size=20))
def test_a_file_of_any_name_is_listed_or_named(names):
    with TemporaryDirectory() as root:
        paths = {f"{root}/{os.fsdecode(name)}.wav" for name in names}
        for path in paths:
            Path(path).write_bytes(wav())
            assert decode(path)[0].shape == (1600, 1)
        files, rejects = list_audio([root])
        known = {path for path in paths if path.encode(errors="replace") == os.fsencode(path)}
        assert {file.uri for file in files} == known
        assert {reject.source for reject in rejects} == {printable(path) for path in paths - known}
        rejects_to_table(rejects)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [(NOT_UTF_8, r"caf\xe9.wav"), ("\ud800.wav", r"\ud800.wav"), ("日本.wav", "日本.wav")],
    ids=ascii,
)
def test_rejects_hold_names_that_every_table_can_take(name, escaped):
    reject = Reject(name, f"/a/{name}", f"no such audio file: {name}")
    (row,) = rejects_to_table([reject]).to_pylist()
    assert row["utt_id"] == escaped
    assert row["source"] == f"/a/{escaped}"
    assert row["reason"] == f"no such audio file: {escaped}"
