"""New audio: every file below a path is listed once, under a name of its own, or has a reason."""

import uuid

import numpy as np
import pytest
import soundfile
from faulty_s3 import FaultyS3, local_s3, use

from pipeline.audio.audio_files import (
    EXTENSIONS,
    AudioFile,
    Place,
    list_audio,
    probe_all,
    read_whole,
)
from pipeline.audio.decode import AudioAccessError, AudioError
from pipeline.audio.frame_grid import FrameGrid
from pipeline.audio.utterance import CorpusError, Reject
from pipeline.progress import Progress, Report
from pipeline.storage.failures import StorageError
from pipeline.storage.folders import FileInfo
from pipeline.storage.s3 import ObjectStore

GRID = FrameGrid(400, 320, 16000)


@pytest.fixture(scope="module")
def server():
    with local_s3() as url:
        yield url


def write(path, seconds=0.5, rate=16000, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.random.default_rng(0).normal(size=int(seconds * rate))
    soundfile.write(path, samples, rate, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for name in ("b.wav", "a/one.flac", "a/deep/er/TWO.OGG", "a/v1.2.mp3"):
        write(tmp_path / "new" / name)
    (tmp_path / "new" / "a" / "readme.txt").write_text("no audio")
    return tmp_path / "new"


EXPECTED = {
    "a/deep/er/TWO": "a/deep/er/TWO.OGG",
    "a/one": "a/one.flac",
    "a/v1.2": "a/v1.2.mp3",
    "b": "b.wav",
}


def names_of(files, root):
    assert all(file.uri == f"{root}/{file.name}" for file in files)
    return {file.stem: file.name for file in files}


def test_a_folder_is_searched_recursively_for_audio_only(folder, monkeypatch):
    files, rejects = list_audio([str(folder)])
    assert rejects == []
    assert names_of(files, folder) == EXPECTED
    assert [file.uri for file in files] == sorted(file.uri for file in files)
    [last] = [file for file in files if file.stem == "b"]
    written = (folder / "b.wav").stat()
    assert last.info == FileInfo(44 + 16000, str(written.st_mtime_ns))
    monkeypatch.chdir(folder.parent)
    assert list_audio(["new/"]) == (files, [])


def test_a_bucket_is_searched_in_the_same_way(folder, server):
    prefix = f"bucket/{uuid.uuid4().hex}"
    ObjectStore().put(f"{folder}/", f"{prefix}/", recursive=True)
    assert names_of(list_audio([f"s3://{prefix}/"])[0], f"s3://{prefix}") == EXPECTED
    (file,), _ = list_audio([f"s3://{prefix}/a/one.flac"])
    assert (file.root, file.name) == (f"s3://{prefix}/a", "one.flac")
    assert probe_all([file.uri]) == [0.5]


def test_a_file_named_twice_is_found_once_by_the_first_name(folder):
    inner, alone = folder / "a", folder / "b.wav"
    files, _ = list_audio([str(inner), str(folder), str(alone), str(alone)])
    assert [file.stem for file in files] == ["deep/er/TWO", "one", "v1.2", "b"]


def test_a_named_file_needs_no_extension(tmp_path):
    path = write(tmp_path / "recording", format="WAV")
    info = FileInfo(16044, str(path.stat().st_mtime_ns))
    assert list_audio([str(path)]) == ([AudioFile(str(tmp_path), "recording", info)], [])
    assert Place.of(str(path)) == Place(str(tmp_path), "recording")


def test_a_path_without_audio_is_refused(folder):
    (folder / "empty").mkdir()
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").touch()
    for name, more in (("empty", ": name"), ("gone", ": name"), ("texts", "; 1 files there have")):
        with pytest.raises(CorpusError, match=f"no audio found below {folder}/{name}{more}"):
            list_audio([str(folder), f"{folder}/{name}"])


def test_a_bucket_that_cannot_be_read_is_refused(server, monkeypatch):
    with pytest.raises(StorageError, match="has no bucket 'other'"):
        list_audio(["s3://other/new"])
    with FaultyS3(server, lambda *_: "denied") as proxy:
        use(monkeypatch, proxy.url)
        with pytest.raises(StorageError, match="denies access to s3://bucket/new"):
            list_audio(["s3://bucket/new"])
    monkeypatch.undo()
    use(monkeypatch, server)


@pytest.mark.parametrize("name", sorted(soundfile.available_formats().keys() & {
    "AIFF", "AU", "CAF", "FLAC", "MP3", "OGG", "RF64", "VOC", "W64", "WAV"
}))  # fmt: skip
def test_formats_are_listed_by_their_extension(tmp_path, name):
    assert name.lower() in EXTENSIONS or f"{name.lower()[:3]}" in EXTENSIONS
    path = write(tmp_path / f"a.{name.lower()}", format=name)
    [file] = list_audio([str(path.parent)])[0]
    assert probe_all([file.uri]) == [pytest.approx(0.5, abs=0.1)]


def test_headers_give_durations_or_reasons(tmp_path):
    write(tmp_path / "good.wav", seconds=0.25, rate=8000)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.flac").write_text("no audio")
    (tmp_path / "lost.wav").symlink_to(tmp_path / "nowhere.wav")
    files, broken = list_audio([str(tmp_path)])
    lost = str(tmp_path / "lost.wav")
    assert broken == [Reject(None, lost, "broken link: No such file or directory")]
    sent = []
    results = dict(
        zip(
            (file.stem for file in files),
            probe_all([file.uri for file in files], Progress(sent.append)),
            strict=True,
        )
    )
    assert results["good"] == 0.25
    reasons = {"empty": "is empty", "text": "not readable as audio"}
    for name, reason in reasons.items():
        assert isinstance(results[name], AudioError)
        assert reason in str(results[name])
    [lost] = probe_all([lost])
    assert isinstance(lost, AudioAccessError)
    assert sent[-1] == Report(3, 3, "headers")


def test_a_file_must_have_at_least_one_frame(tmp_path):
    assert len(read_whole(str(write(tmp_path / "a.wav", seconds=0.5, rate=8000)), GRID)) == 8000
    assert len(read_whole(str(write(tmp_path / "b.wav", seconds=0.025)), GRID)) == 400
    with pytest.raises(AudioError, match=r"^shorter than one frame of 0\.025 s$"):
        read_whole(str(write(tmp_path / "c.wav", seconds=0.024)), GRID)
