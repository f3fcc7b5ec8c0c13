"""Hours before preparation, in corpora of every format that has no durations in its tables."""

import json
import os

import numpy as np
import pytest
import soundfile

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import to_table
from pipeline.corpus import durations, expected_durations
from pipeline.corpus.adapters.kaldi import KaldiCorpus
from pipeline.corpus.adapters.librispeech import LibrispeechCorpus
from pipeline.corpus.adapters.ljspeech import LjspeechCorpus
from pipeline.corpus.adapters.manifest import ManifestCorpus
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.corpus.durations import durations_by_split
from pipeline.corpus.expected_durations import LOCAL_SAMPLE, Durations
from pipeline.storage.artifacts import Artifact

SIZES = {"train": 2 * LOCAL_SAMPLE, "valid": 30, "test": 20}
RATE = 1000  # small files


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """Recordings of 0.2 to 20 s, most of them short; in each format's tree, many links to them."""
    folder = tmp_path_factory.mktemp("pool")
    seconds = np.clip(np.random.default_rng(0).lognormal(1.0, 0.8, 40), 0.2, 20)
    for number, length in enumerate(seconds):
        samples = 0.1 * np.random.default_rng(number).normal(size=round(length * RATE))
        write_audio(folder / f"{number}.wav", samples, RATE, "WAV")
    return sorted(folder.iterdir())


def recordings(pool):
    """Split, id and file of every utterance."""
    generator = np.random.default_rng(1)
    return [
        (split, f"{split}-{number:04d}", pool[generator.integers(len(pool))])
        for split, size in SIZES.items()
        for number in range(size)
    ]


def librispeech(root, rows):
    for number, (split, utt_id, file) in enumerate(rows):
        folder = root / split / "speaker" / str(number // 50)
        folder.mkdir(parents=True, exist_ok=True)
        os.link(file, folder / f"{utt_id}.wav")
        with (folder / "a.trans.txt").open("a") as transcript:
            transcript.write(f"{utt_id} GO ON\n")
    return LibrispeechCorpus(root=str(root))


def ljspeech(root, rows):
    (root / "wavs").mkdir()
    for _, utt_id, file in rows:
        os.link(file, root / "wavs" / f"{utt_id}.wav")
    (root / "metadata.csv").write_text("".join(f"{utt_id}|go on\n" for _, utt_id, _ in rows))
    return LjspeechCorpus(root=str(root), shares={"valid": 0.02, "test": 0.01})


def kaldi(root, rows):
    for split in SIZES:
        (root / split).mkdir()
    for split, utt_id, file in rows:
        for name, value in (("wav.scp", file), ("text", "go on"), ("utt2spk", "anna")):
            with (root / split / name).open("a") as table:
                table.write(f"{utt_id} {value}\n")
    return KaldiCorpus(root=str(root))


def manifest(root, rows):
    lines = [
        {"utt_id": utt_id, "split": split, "speaker": "s", "audio": str(file), "text": "go on"}
        for split, utt_id, file in rows
    ]
    (root / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return ManifestCorpus(manifest=str(root / "m.jsonl"))


@pytest.mark.parametrize("make", [librispeech, ljspeech, kaldi, manifest])
def test_hours_come_close_to_the_truth_and_are_kept(tmp_path, pool, make, monkeypatch):
    rows = recordings(pool)
    (tmp_path / "corpus").mkdir()
    config = make(tmp_path / "corpus", rows)
    corpus, cache = Artifact(str(tmp_path / "prepare_corpus" / "0a")), Artifact(str(tmp_path / "x"))
    found = durations_by_split(config, corpus, cache)
    truth = sum(soundfile.info(file).duration for _, _, file in rows)
    assert sum(sum(each.seconds) for each in found.values()) == pytest.approx(truth, rel=0.1)
    assert {split: each.source for split, each in found.items()} == {
        "train": "sample",
        "valid": "headers",
        "test": "headers",
    }
    monkeypatch.setattr(expected_durations, "probe_seconds", None)
    assert durations_by_split(config, corpus, cache) == found
    with pytest.raises(TypeError):
        durations_by_split(config, Artifact(str(tmp_path / "prepare_corpus" / "0b")), cache)


def test_durations_of_tables_need_no_audio_and_are_not_kept(tmp_path):
    row = {"speaker": "s", "audio": "a.wav", "text": "go"}
    lines = [
        {**row, "utt_id": "a", "split": "train", "duration": 1.0},
        {**row, "utt_id": "b", "split": "train", "duration": 2.0},
        {**row, "utt_id": "c", "split": "extra", "duration": 4.0},
        {**row, "utt_id": "d", "split": "test", "duration": 61.0},
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    config = ManifestCorpus(manifest=str(tmp_path / "m.jsonl"))
    corpus, cache = Artifact(str(tmp_path / "corpus")), Artifact(str(tmp_path / "cache"))
    expected = {"train": Durations([1.0, 2.0]), "test": Durations([0.0])}
    assert durations_by_split(config, corpus, cache) == expected
    first = config.model_copy(update={"max_utterances": 1})
    assert durations_by_split(first, corpus, cache)["train"] == Durations([1.0])
    assert not (tmp_path / "cache").exists()


def test_tables_of_many_utterances_are_parsed_once(tmp_path, monkeypatch):
    monkeypatch.setattr(durations, "MANY", 3)
    row = {"speaker": "s", "audio": "a.wav", "text": "go", "split": "train", "duration": 1.5}
    lines = [json.dumps({**row, "utt_id": str(number)}) for number in range(3)]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    config = ManifestCorpus(manifest=str(tmp_path / "m.jsonl"))
    corpus, cache = Artifact(str(tmp_path / "corpus")), Artifact(str(tmp_path / "cache"))
    expected = {"train": Durations([1.5, 1.5, 1.5])}
    assert durations_by_split(config, corpus, cache) == expected
    (tmp_path / "m.jsonl").unlink()
    assert durations_by_split(config, corpus, cache) == expected


def test_segments_of_kaldi_end_with_their_recording(tmp_path, pool):
    for split in SIZES:
        (tmp_path / split).mkdir()
        tables = {"wav.scp": f"r {pool[0]}", "segments": "a r 1 2.5\nb r 0.1 -1"}
        for name, content in {**tables, "utt2spk": "a s\nb s", "text": "a x\nb x"}.items():
            (tmp_path / split / name).write_text(content)
    config = KaldiCorpus(root=str(tmp_path), alignments="not read")
    artifacts = (Artifact(str(tmp_path / name)) for name in ("corpus", "cache"))
    rest = soundfile.info(pool[0]).duration - 0.1
    assert durations_by_split(config, *artifacts) == {
        split: Durations([1.5, rest], "headers") for split in sorted(SIZES)
    }


def test_a_prepared_corpus_says_it_itself(tmp_path, pool):
    from support import tone_utterances

    utterances = tone_utterances(tmp_path, "train", 3)
    corpus = Artifact(str(tmp_path / "corpus"))
    corpus.write_table("corpus.parquet", to_table(utterances))
    config = ManifestCorpus(manifest=str(tmp_path / "nowhere.jsonl"))
    assert durations_by_split(config, corpus, Artifact(str(tmp_path / "cache"))) == {
        "train": Durations([utterance.duration for utterance in utterances])
    }


def test_nobody_knows_how_long_the_synthesiser_will_speak(tmp_path):
    artifacts = (Artifact(str(tmp_path / name)) for name in ("corpus", "cache"))
    assert durations_by_split(SyntheticCorpus(), *artifacts) == {}
