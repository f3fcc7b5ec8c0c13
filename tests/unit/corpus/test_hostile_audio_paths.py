"""A manifest whose rows name what cannot be read: each is a reject, and the good ones stay."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import rejects_to_table
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.check import check
from pipeline.progress import SILENT

REASONS = {
    "gone.wav": "no such audio file",
    "good.flac/b.wav": "no such audio file: Not a directory",
    "itself.wav": "no such audio file: Too many levels of symbolic links",
    "n" * 256: "no such audio file: File name too long",
    "a\0b.wav": "the address cannot be read: embedded null byte",
    "pipe.wav": "not readable as audio: it is not a regular file",
    "folder.wav": "not readable as audio: it is a folder",
    "": "not readable as audio: it is a folder",
    "nothing://a.wav": "the address cannot be read: 'nothing://a.wav' has the scheme nothing://, "
    "which fails: Protocol not known: nothing",
}
GOOD = ["good.flac", "a::b.flac", "link/~.flac", "sub/../good.flac"]


@pytest.fixture
def folder(tmp_path):
    samples = np.random.default_rng(0).normal(0, 0.1, 16000)
    (tmp_path / "store").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to("store")
    for name in GOOD[:3]:
        write_audio(str(tmp_path / name), samples, 16000)
    (tmp_path / "itself.wav").symlink_to("itself.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    return tmp_path


def row(utt_id, audio, split="train"):
    return {"utt_id": utt_id, "split": split, "speaker": "s", "audio": audio, "text": "go"}


def checked(folder, rows, more=()):
    manifest = folder / "manifest.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    config = ManifestCorpus(manifest=str(manifest))
    entries = adapter_of(config).read(config, None, SILENT)
    return check([*entries, *more], config)


def test_each_bad_path_is_a_reject_and_the_others_stay(folder):
    rows = [row(f"bad-{number}", audio) for number, audio in enumerate(REASONS)]
    rows += [row(f"good-{number}", audio) for number, audio in enumerate(GOOD)]
    corpus = checked(folder, rows)
    found = {reject.utt_id: reject.reason for reject in corpus.rejects}
    assert found == {f"bad-{number}": reason for number, reason in enumerate(REASONS.values())}
    assert [utterance.utt_id for utterance in corpus.utterances] == [
        f"good-{number}" for number in range(len(GOOD))
    ]
    assert {reject.kind for reject in corpus.rejects} == {
        "no such audio file",
        "not readable as audio",
        "the address cannot be read",
    }


def test_rejects_of_any_name_are_a_table(folder, tmp_path):
    """Which an adapter that lists folders may find, and a line of JSON cannot name."""
    corpus = checked(folder, [row("good", "good.flac")])
    name = os.fsdecode(b"caf\xe9.flac")
    write_audio(str(folder / name), np.full(16000, 0.1), 16000)
    odd = replace(corpus.utterances[0], utt_id="odd", audio=f"{folder}/{name}")
    corpus = checked(folder, [row("good", "good.flac"), row("lone", "\udcff.flac")], [odd])
    assert [utterance.utt_id for utterance in corpus.utterances] == ["good"]
    pq.write_table(rejects_to_table(corpus.rejects), tmp_path / "rejects.parquet")
    rows = pq.read_table(tmp_path / "rejects.parquet").to_pylist()
    assert [(row["source"], row["reason"].partition(":")[0]) for row in rows] == [
        ("manifest.jsonl:2", "broken line"),
        (rf"{folder}/caf\xe9.flac", "name is not UTF-8"),
    ]
