import json
import os
import tempfile

import numpy as np
import pytest
from faulty_s3 import local_s3

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import CorpusError
from pipeline.corpus.adapter import adapter_of
from pipeline.corpus.adapters.an4 import An4Corpus
from pipeline.corpus.adapters.kaldi import KaldiCorpus
from pipeline.corpus.adapters.lhotse import LhotseCorpus
from pipeline.corpus.adapters.librispeech import LibrispeechCorpus
from pipeline.corpus.adapters.ljspeech import LjspeechCorpus
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.storage.artifacts import Artifact


def fingerprint(config):
    with tempfile.TemporaryDirectory() as cache:
        return adapter_of(config).fingerprint(config, Artifact(cache))


def test_a_changed_manifest_has_another_fingerprint(tmp_path):
    path = tmp_path / "m.jsonl"
    config = ManifestCorpus(manifest=str(path))
    path.write_text('{"utt_id": "a"}\n')
    before = fingerprint(config)
    os.utime(path, (0, 0))
    assert fingerprint(config) == before
    path.write_text('{"utt_id": "b"}\n')
    assert fingerprint(config) != before


def test_a_missing_manifest_is_reported_before_any_work(tmp_path):
    with pytest.raises(CorpusError, match="there is no manifest at"):
        fingerprint(ManifestCorpus(manifest=str(tmp_path / "m.jsonl")))


@pytest.fixture
def librispeech(tmp_path):
    for folder in ("train/1/2", "valid/3/4", "test/5/6", "grids/train/1/2", "other/7/8"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.flac").write_bytes(b"12345")
        (tmp_path / folder / "x.trans.txt").write_text("a ONE\n")
    (tmp_path / "grids/train/1/2/b.TextGrid").write_bytes(b"12345")
    return tmp_path


def test_librispeech_changes_with_the_files_of_its_splits(librispeech):
    config = LibrispeechCorpus(root=str(librispeech), alignments=str(librispeech / "grids"))
    seen = [fingerprint(config)]
    (librispeech / "other/7/8/a.flac").write_bytes(b"1")
    assert fingerprint(config) == seen[0]
    (librispeech / "test/5/6/a.flac").write_bytes(b"123456")
    seen.append(fingerprint(config))
    (librispeech / "test/5/6/b.flac").write_bytes(b"")
    seen.append(fingerprint(config))
    (librispeech / "test/5/6/x.trans.txt").write_text("a TWO\n")
    seen.append(fingerprint(config))
    (librispeech / "grids/train/1/2/b.TextGrid").write_bytes(b"1234x")
    seen.append(fingerprint(config))
    assert len(set(seen)) == 5
    assert fingerprint(config) == seen[-1]


def noise(path, seed, seconds=1.0):
    samples = np.random.default_rng(seed).normal(0, 0.1, round(16000 * seconds))
    write_audio(path, samples, 16000, format="WAV")


def test_overwritten_audio_of_the_same_name_and_size_is_noticed(tmp_path):
    noise(tmp_path / "a.wav", 0)
    row = {"utt_id": "a", "split": "train", "speaker": "s", "audio": "a.wav", "text": "a"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    config = ManifestCorpus(manifest=str(tmp_path / "m.jsonl"))
    before = fingerprint(config)
    noise(tmp_path / "a.wav", 1)
    assert fingerprint(config) != before


@pytest.mark.parametrize("name", ["a.TextGrid", "a.ctm", "a.PHN"])
def test_an_alignment_counts_by_its_content_whatever_its_times(tmp_path, name):
    (tmp_path / "m.jsonl").write_text("")
    file = tmp_path / "ali" / name
    file.parent.mkdir()
    config = ManifestCorpus(manifest=str(tmp_path / "m.jsonl"), alignments=str(file.parent))
    seen = []
    for content in ("a 1 0 1 x\n", "a 1 0 1 y\n"):
        file.write_text(content)
        for seconds in (5, 6):
            os.utime(file, (seconds, seconds))
            seen.append(fingerprint(config))
    assert seen[0] == seen[1] != seen[2] == seen[3]


def ljspeech(root):
    (root / "wavs").mkdir()
    (root / "wavs" / "a.wav").write_bytes(b"12345")
    (root / "metadata.csv").write_text("a|one\n")
    return LjspeechCorpus(root=str(root)), ["metadata.csv", "wavs/a.wav", "wavs/b.wav"]


def an4(root):
    for folder in ("etc", "wav/s"):
        (root / folder).mkdir(parents=True)
    names = [f"etc/an4_{x}.{y}" for x in ("train", "test") for y in ("fileids", "transcription")]
    for name in names:
        (root / name).write_text("s/a\n" if name.endswith("fileids") else "one (a)\n")
    (root / "wav" / "s" / "a.sph").write_bytes(b"12345")
    return An4Corpus(root=str(root), held_out={"valid": ("s",)}), [*names, "wav/s/a.sph"]


def kaldi(root):
    names = ["wav.scp", "text", "utt2spk", "segments"]
    for split in ("train", "valid", "test"):
        (root / split).mkdir()
        for name in names[:3]:
            (root / split / name).write_text("a b\n")
    return KaldiCorpus(root=str(root)), [f"test/{name}" for name in names]


def lhotse(root):
    names = {split: f"{split}.jsonl" for split in ("train", "valid", "test")}
    for name in names.values():
        (root / name).write_text("{}\n")
    cuts = {split: str(root / name) for split, name in names.items()}
    return LhotseCorpus(cuts=cuts), list(names.values())


@pytest.mark.parametrize("make", [ljspeech, an4, kaldi, lhotse])
def test_each_file_of_a_corpus_counts(tmp_path, make):
    config, names = make(tmp_path)
    seen = [fingerprint(config)]
    assert fingerprint(config) == seen[0]
    for name in names:
        with (tmp_path / name).open("a") as file:
            file.write("c d\n")
        seen.append(fingerprint(config))
    assert len(set(seen)) == 1 + len(names)


def test_a_missing_root_is_reported_before_any_work(tmp_path):
    with pytest.raises(CorpusError, match=r"no folder .*nowhere', where corpus.root says"):
        fingerprint(LibrispeechCorpus(root=str(tmp_path / "nowhere")))


def test_the_synthetic_corpus_depends_on_the_synthesiser():
    assert fingerprint(SyntheticCorpus()).startswith("espeakng-loader ")


def test_paths_are_named_by_their_keys():
    cuts = {"train": "a.jsonl", "valid": "b.jsonl", "test": "c.jsonl"}
    config = LhotseCorpus(cuts=cuts, alignments="ali")
    assert adapter_of(config).paths(config) == {
        "cuts.train": "a.jsonl",
        "cuts.valid": "b.jsonl",
        "cuts.test": "c.jsonl",
        "audio_root": ".",
        "alignments": "ali",
    }
    config = ManifestCorpus(manifest="m.jsonl")
    assert adapter_of(config).paths(config) == {"manifest": "m.jsonl"}


def test_an_overwritten_object_of_the_same_size_is_noticed():
    with local_s3():
        folder = Artifact("s3://bucket/corpus")

        def write(name, content):
            with folder.write(name) as file:
                file.write(content)

        row = {"utt_id": "a", "split": "train", "speaker": "s", "audio": "a.wav", "text": "a"}
        write("m.jsonl", json.dumps(row).encode())
        write("a.wav", b"12345")
        config = ManifestCorpus(manifest=f"{folder.uri}/m.jsonl")
        before = fingerprint(config)
        assert fingerprint(config) == before
        write("a.wav", b"12346")
        assert fingerprint(config) != before
