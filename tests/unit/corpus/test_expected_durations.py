"""How long a corpus is before it is prepared, against the truth."""

import fsspec
import numpy as np
import pytest

from pipeline.audio.decode import AudioStorageError, write_audio
from pipeline.audio.utterance import TO_THE_END, Utterance
from pipeline.config.corpus import CorpusSection
from pipeline.corpus import expected_durations as module
from pipeline.corpus.expected_durations import (
    LOCAL_SAMPLE,
    REMOTE_SAMPLE,
    Durations,
    expected_durations,
)

RATE = 1000  # small files
CONFIG = CorpusSection(kind="any", min_seconds=0.5, max_seconds=20)


def audio(path, seconds):
    write_audio(path, np.zeros(round(seconds * RATE), np.float32), RATE, "WAV")
    return str(path)


def utterance(uri, offset=0.0, duration=TO_THE_END):
    return Utterance("u", "train", uri, offset, duration, "s", "hi")


def test_tables_come_first_and_headers_fill_the_gaps(tmp_path):
    uri = audio(tmp_path / "a.wav", 3.0)
    rows = [utterance("nowhere", duration=2.0), utterance(uri), utterance(uri, offset=1.0)]
    assert expected_durations(rows, CONFIG) == Durations([2.0, 3.0, 2.0], "headers")


def test_what_will_be_rejected_has_no_seconds(tmp_path):
    (tmp_path / "text.wav").write_text("hello")
    rows = [
        utterance("nowhere"),
        utterance(str(tmp_path / "text.wav")),
        utterance(audio(tmp_path / "short.wav", 0.25)),
        utterance(audio(tmp_path / "long.wav", 21)),
        utterance("nowhere", duration=21.0),
        utterance(audio(tmp_path / "good.wav", 4.0)),
        utterance(str(tmp_path / "good.wav"), offset=5.0),
    ]
    assert expected_durations(rows, CONFIG) == Durations([0, 0, 0, 0, 0, 4.0, 0], "headers")


def test_nothing_is_0_seconds():
    assert expected_durations([], CONFIG) == Durations([])


@pytest.fixture
def opened(monkeypatch):
    """The addresses whose headers were read."""
    uris, probe = [], module.probe_seconds
    monkeypatch.setattr(module, "probe_seconds", lambda uri: uris.append(uri) or probe(uri))
    return uris


@pytest.mark.parametrize("period", [2, 5, 7, 100])
def test_a_sample_stands_for_many_files_whatever_their_pattern(tmp_path, opened, period):
    short, long = audio(tmp_path / "short.wav", 1.0), audio(tmp_path / "long.wav", 15.0)
    rows = [utterance(long if index % period == 0 else short) for index in range(5000)]
    truth = sum(15.0 if row.audio == long else 1.0 for row in rows)
    result = expected_durations(rows, CONFIG)
    assert result.source == "sample"
    assert len(result.seconds) == 5000
    assert sum(result.seconds) == pytest.approx(truth, rel=0.1)
    assert len(opened) == LOCAL_SAMPLE


def test_a_corpus_no_larger_than_a_sample_is_measured_completely(tmp_path, opened):
    uris = [audio(tmp_path / f"{seconds}.wav", seconds) for seconds in (1, 2, 3, 4)]
    rows = [utterance(uris[index % 4]) for index in range(LOCAL_SAMPLE)]
    assert expected_durations(rows, CONFIG) == Durations([1.0, 2.0, 3.0, 4.0] * 250, "headers")
    assert len(opened) == LOCAL_SAMPLE


def test_unusable_files_count_in_the_mean(tmp_path):
    uri = audio(tmp_path / "a.wav", 10.0)
    rows = [utterance(uri if index % 2 else "nowhere") for index in range(4 * LOCAL_SAMPLE)]
    assert sum(expected_durations(rows, CONFIG).seconds) == pytest.approx(20_000, rel=0.1)


def test_of_a_bucket_fewer_files_are_opened(opened):
    with fsspec.open("memory://corpus/a.wav", "wb") as file:
        write_audio(file, np.zeros(2 * RATE, np.float32), RATE, "WAV")
    rows = [utterance("memory://corpus/a.wav")] * 500
    result = expected_durations(rows, CONFIG)
    assert (sum(result.seconds), result.source) == (1000.0, "sample")
    assert len(opened) == REMOTE_SAMPLE


def test_a_storage_that_fails_is_said(monkeypatch):
    def fail(uri):
        raise AudioStorageError(f"{uri} cannot be fetched: no route; run again")

    monkeypatch.setattr(module, "probe_seconds", fail)
    with pytest.raises(AudioStorageError, match="cannot be fetched"):
        expected_durations([utterance("s3://bucket/a.wav")], CONFIG)
