"""An utterance is read again only from the file that was prepared, or a copy of it."""

import os
from dataclasses import replace

import numpy as np
import pytest
from faulty_s3 import local_s3

from pipeline.audio.decode import AudioError, decode_and_identify, read_utterance, write_audio
from pipeline.audio.utterance import Utterance
from pipeline.storage.artifacts import Artifact


def noise(seed, seconds=0.5):
    return np.random.default_rng(seed).normal(0, 0.1, round(16000 * seconds))


def prepared(audio, **known):
    samples, rate_hz, identity = decode_and_identify(audio, 0.0, None, 60.0)
    known = {"audio_version": identity.version, "audio_sha256": identity.sha256, **known}
    seconds = len(samples) / rate_hz
    return Utterance("a", "train", audio, 0.0, seconds, "s", "text", **known)


@pytest.fixture
def audio(tmp_path):
    write_audio(tmp_path / "a.wav", noise(0), 16000, format="WAV")
    return tmp_path / "a.wav"


def test_the_same_file_is_read_without_hashing_it(audio, monkeypatch):
    utterance = prepared(str(audio))
    assert len(utterance.audio_sha256) == 64
    monkeypatch.delattr("pipeline.audio.identity.content_sha256")
    assert len(read_utterance(utterance, 16000)) == 8000


def test_a_copy_with_another_time_is_the_same_file(audio):
    utterance = prepared(str(audio))
    os.utime(audio, (1, 1))
    assert len(read_utterance(utterance, 16000)) == 8000


@pytest.mark.parametrize("seconds", [0.5, 0.7])
def test_other_audio_of_that_name_is_refused_with_the_cure(audio, seconds):
    utterance = prepared(str(audio))
    write_audio(audio, noise(1, seconds), 16000, format="WAV")
    message = r"'a' \(.*a.wav\) .* it is another file than was prepared\. Restore the file, or give"
    with pytest.raises(AudioError, match=message):
        read_utterance(utterance, 16000)


def test_without_a_hash_another_version_is_another_file(audio):
    utterance = prepared(str(audio), audio_sha256="")
    assert len(read_utterance(utterance, 16000)) == 8000
    os.utime(audio, (1, 1))
    with pytest.raises(AudioError, match="another file"):
        read_utterance(utterance, 16000)
    assert len(read_utterance(replace(utterance, audio_version=""), 16000)) == 8000


def test_a_file_that_is_known_is_not_hashed_again_and_must_be_the_same(audio):
    *_, known = decode_and_identify(str(audio), 0.0, None, 60.0)
    assert decode_and_identify(str(audio), 0.0, 0.1, 60.0, known)[2] is known
    write_audio(audio, noise(1), 16000, format="WAV")
    with pytest.raises(AudioError, match="another file"):
        decode_and_identify(str(audio), 0.0, 0.1, 60.0, known)


def test_an_object_is_known_by_its_etag_and_a_small_one_by_its_content_too(monkeypatch):
    with local_s3():
        output = Artifact("s3://bucket/audio")

        def write(seed):
            with output.write("a.wav") as file:
                write_audio(file, noise(seed), 16000, format="WAV")

        write(0)
        small = prepared(f"{output.uri}/a.wav")
        assert len(small.audio_sha256) == 64
        monkeypatch.setattr("pipeline.audio.remote_file.ONE_REQUEST_BYTES", 100)
        large = prepared(f"{output.uri}/a.wav")
        assert (large.audio_sha256, large.audio_version) == ("", small.audio_version)
        for utterance in (small, large):
            assert len(read_utterance(utterance, 16000)) == 8000
        write(1)
        for utterance in (small, large):
            with pytest.raises(AudioError, match="another file"):
                read_utterance(utterance, 16000)
