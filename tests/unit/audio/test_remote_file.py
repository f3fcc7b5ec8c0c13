"""Audio on an object store: what is fetched, and what happens when the network fails."""

import io

import fsspec
import numpy as np
import pytest
import soundfile

from pipeline.audio import remote_file
from pipeline.audio.decode import AudioError, AudioStorageError, decode, probe_seconds
from pipeline.audio.remote_file import BLOCK_BYTES, ONE_REQUEST_BYTES

RATE = 48000


class RemoteFileSystem(fsspec.AbstractFileSystem):
    """An object store that counts its bytes and may fail after some of them."""

    protocol = "remote"
    cachable = False
    objects = {}  # noqa: RUF012 - all instances share one store
    fetched = 0
    breaks_after = None

    def info(self, path, **_settings):
        if path not in self.objects:
            raise FileNotFoundError(path)
        return {"name": path, "type": "file", "size": len(self.objects[path])}

    def cat_file(self, path, start=None, end=None, **_settings):
        content = self.objects[path][start:end]
        RemoteFileSystem.fetched += len(content)
        if self.breaks_after is not None and self.fetched > self.breaks_after:
            raise TimeoutError("the network went away")
        return content

    def _open(self, path, mode="rb", **settings):
        return RemoteFile(self, path, mode, **settings)


class RemoteFile(fsspec.spec.AbstractBufferedFile):
    def _fetch_range(self, start, end):
        return self.fs.cat_file(self.path, start, end)


@pytest.fixture
def store(monkeypatch):
    fsspec.register_implementation("remote", RemoteFileSystem, clobber=True)
    monkeypatch.setattr(RemoteFileSystem, "objects", {})
    monkeypatch.setattr(RemoteFileSystem, "fetched", 0)
    monkeypatch.setattr(RemoteFileSystem, "breaks_after", None)
    return RemoteFileSystem


def audio(seconds, container="WAV", subtype="PCM_16"):
    noise = np.random.default_rng(0).integers(-9999, 9999, (RATE, 2)) / 32768
    file = io.BytesIO()
    samples = np.tile(noise, (seconds, 1))
    soundfile.write(file, samples, RATE, format=container, subtype=subtype)
    return samples.astype(np.float32), file.getvalue()


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_little_more_than_the_interval_of_a_long_file_is_fetched(store, container):
    samples, store.objects["long"] = audio(180, container)
    read, _ = decode("remote://long", 100.0, 2.0)
    np.testing.assert_array_equal(read, samples[100 * RATE : 102 * RATE])
    asked = len(store.objects["long"]) * 2 / 180
    assert store.fetched < asked + 12 * BLOCK_BYTES < len(store.objects["long"]) / 2


def test_an_interval_of_a_long_ogg_is_checked_where_it_is_read(store, monkeypatch):
    monkeypatch.setattr(remote_file, "ONE_REQUEST_BYTES", 1 << 16)
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 1 << 13)
    content = io.BytesIO()
    with soundfile.SoundFile(content, "w", 16000, 1, "VORBIS", format="OGG") as file:
        for second in range(120):  # libsndfile cannot take all at once
            file.write(np.random.default_rng(second).normal(0, 0.1, 16000))
    store.objects["long"] = content.getvalue()
    read, _ = decode("remote://long", 60.0, 2.0)
    assert len(read) == 32000
    assert store.fetched < len(store.objects["long"]) * 2 / 3
    damaged = bytearray(content.getvalue())
    damaged[len(damaged) * 61 // 120] ^= 1
    store.objects["long"] = bytes(damaged)
    for interval in ((60.0, 2.0), ()):
        with pytest.raises(
            AudioError, match=r"^audio is damaged: Ogg page \d+ at byte \d+ does not"
        ):
            decode("remote://long", *interval)
    assert len(decode("remote://long", 5.0, 2.0)[0]) == 32000


def test_the_bytes_of_a_long_mp3_are_compared_without_fetching_them(store, monkeypatch):
    monkeypatch.setattr(remote_file, "ONE_REQUEST_BYTES", 1 << 16)
    monkeypatch.setattr(remote_file, "BLOCK_BYTES", 1 << 13)
    content = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, 120 * 16000)
    soundfile.write(content, noise, 16000, format="MP3")
    store.objects["long"] = mp3 = content.getvalue()
    assert probe_seconds("remote://long") == 120.0
    assert store.fetched < len(mp3) / 4
    store.objects |= {"cut": mp3[: len(mp3) // 2], "two": mp3 + mp3}
    reason = f"cut short: {len(mp3) // 2} bytes of the {len(mp3)} its header promises"
    with pytest.raises(AudioError, match=reason):
        decode("remote://cut")
    with pytest.raises(AudioError, match=f"{len(mp3)} bytes of the file's {2 * len(mp3)}"):
        decode("remote://two")


def test_a_long_file_is_read_completely_on_request(store):
    samples, store.objects["long"] = audio(60)
    assert len(store.objects["long"]) > ONE_REQUEST_BYTES
    np.testing.assert_array_equal(decode("remote://long")[0], samples)


def test_a_short_file_is_one_request(store):
    samples, store.objects["short"] = audio(2)
    np.testing.assert_array_equal(decode("remote://short", 1.0)[0], samples[RATE:])
    assert store.fetched == len(store.objects["short"])


@pytest.mark.parametrize("seconds", [2, 60])
@pytest.mark.parametrize("breaks_after", [0, 3 * BLOCK_BYTES])
def test_a_network_failure_is_not_blamed_on_the_audio(store, seconds, breaks_after):
    _, store.objects["a"] = audio(seconds)
    store.breaks_after = min(breaks_after, len(store.objects["a"]) // 2)
    with pytest.raises(AudioStorageError, match="remote://a cannot be fetched: the network went"):
        decode("remote://a")


@pytest.mark.parametrize("seconds", [2, 60])
def test_damaged_files_are_refused_as_local_ones_are(store, seconds):
    _, content = audio(seconds)
    store.objects |= {"cut": content[:-99], "text": b"text\n" * seconds, "empty": b""}
    for name, reason in (
        ("cut", "cut short"),
        ("text", "not readable as audio"),
        ("empty", r"empty \(0 bytes\)"),
        ("gone", "no such audio file"),
    ):
        with pytest.raises(AudioError, match=reason):
            decode(f"remote://{name}")
