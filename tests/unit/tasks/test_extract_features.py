import json
import os

import numpy as np
import pytest
from support import save_tiny_ssl, tiny_config, tone_utterances, write_corpus

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import from_table
from pipeline.corpus.adapters.ljspeech import LjspeechCorpus
from pipeline.features.extraction import ShardWriter
from pipeline.graph.sources import Fingerprints
from pipeline.storage.artifacts import Artifact
from tasks.extract_features import STAGE


@pytest.fixture
def config(tmp_path):
    return tiny_config(save_tiny_ssl(tmp_path / "ssl"), features={"layers": [0, 2]})


def test_estimate_counts_frames_and_bytes_of_the_prepared_corpus(tmp_path, config):
    utterances = tone_utterances(tmp_path, "train", 3)
    corpus = write_corpus(Artifact(str(tmp_path / "corpus")), utterances)
    estimate = STAGE.estimate(config, "train", {"prepare_corpus": corpus})
    num_frames = sum((int(u.duration * 16000) - 400) // 320 + 1 for u in utterances)
    assert estimate.audio_seconds == sum(u.duration for u in utterances)
    assert estimate.num_frames == num_frames
    assert estimate.bytes_written == num_frames * 2 * 16 * 2
    assert estimate.grows_with == {
        "features.layers": 2,
        "hours of audio": estimate.audio_seconds / 3600,
    }
    assert "sample_frames_per_second" in estimate.advice


def test_neither_batches_nor_compilation_are_in_a_digest(config):
    changed = {"batch_seconds": 3.0, "compile": "off"}
    features = config.features.model_copy(update=changed)
    other = config.model_copy(update={"features": features})
    assert STAGE.settings(other) == STAGE.settings(config)
    assert not changed.keys() & STAGE.settings(config)["features"].keys()


def test_estimate_of_a_sample_counts_what_is_stored(tmp_path, config):
    corpus = write_corpus(Artifact(str(tmp_path / "corpus")), tone_utterances(tmp_path, "train", 3))
    features = config.features.model_copy(update={"sample_frames_per_second": 5.0})
    sampled = config.model_copy(update={"features": features})
    output = Artifact(str(tmp_path / "output"))
    name = "shards/train-00000.parquet"
    utterances = from_table(corpus.read_table("corpus.parquet"))
    ShardWriter(config.ssl, features, output)(name, utterances)
    estimate = STAGE.estimate(sampled, "train", {"prepare_corpus": corpus})
    assert 0 < estimate.num_frames == output.read_record(name)["frames"]
    assert estimate.bytes_written == estimate.num_frames * 2 * 16 * 2


def test_estimate_before_the_corpus_stands_comes_from_its_manifest(tmp_path, config):
    manifest = tmp_path / "manifest.jsonl"
    row = {"utt_id": "a", "split": "train", "audio": "a.wav", "duration": 10.0, "speaker": "s"}
    manifest.write_text(json.dumps({**row, "text": "a"}) + "\n")
    corpus = config.corpus.model_copy(update={"manifest": str(manifest)})
    planned = config.model_copy(update={"corpus": corpus})
    absent = Artifact(str(tmp_path / "absent"))
    assert STAGE.estimate(planned, "train", {"prepare_corpus": absent}).num_frames == 499


def test_estimate_of_an_ljspeech_tree_comes_from_a_sample_of_headers(tmp_path, config):
    (tmp_path / "lj" / "wavs").mkdir(parents=True)
    lengths = [2.0, 3.0, 10.0]
    for length in lengths:
        samples = np.random.default_rng(0).normal(0, 0.1, round(1000 * length))
        write_audio(tmp_path / f"{length}.wav", samples, 1000, "WAV")
    for number in range(1500):
        file = tmp_path / f"{lengths[number % 3]}.wav"
        os.link(file, tmp_path / "lj" / "wavs" / f"{number:04d}.wav")
    table = "".join(f"{number:04d}|go on\n" for number in range(1500))
    (tmp_path / "lj" / "metadata.csv").write_text(table)
    corpus = LjspeechCorpus(root=str(tmp_path / "lj"), shares={"valid": 1e-9, "test": 1e-9})
    planned = config.model_copy(update={"corpus": corpus, "storage": str(tmp_path / "storage")})
    absent = Artifact(str(tmp_path / "absent"))
    estimate = STAGE.estimate(planned, "train", {"prepare_corpus": absent})
    assert estimate.sampled
    assert estimate.audio_seconds == pytest.approx(1500 * 5.0, rel=0.1)
    assert estimate.num_frames == pytest.approx(500 * (99 + 149 + 499), rel=0.1)
    assert estimate.bytes_written == estimate.num_frames * 2 * 16 * 2


def test_copies_at_other_speeds_are_splits_that_are_stored_where_a_phase_reads_them(
    tmp_path, config
):
    finetuned = {"epochs": 1, "ssl": "finetuned"}
    for phases, copies in (
        ([{"epochs": 1}, finetuned], ("train_sp0.9", "train_sp1.1")),
        ([finetuned], ()),
    ):
        settings = {"speeds": [0.9, 1.0, 1.1], "phases": phases}
        perturbed = tiny_config(config.ssl.model, training=settings)
        assert STAGE.splits(perturbed) == ("train", "valid", *copies)
    utterances = [*tone_utterances(tmp_path, "train", 3), *tone_utterances(tmp_path, "valid", 1)]
    corpus = write_corpus(Artifact(str(tmp_path / "corpus")), utterances)
    for split, speed in (("train", 1.0), ("train_sp0.9", 0.9), ("train_sp1.1", 1.1)):
        estimate = STAGE.estimate(perturbed, split, {"prepare_corpus": corpus})
        seconds = [each.duration / speed for each in utterances[:3]]
        assert estimate.audio_seconds == pytest.approx(sum(seconds))
        assert estimate.num_frames == sum((round(16000 * s) - 400) // 320 + 1 for s in seconds)


def test_batches_change_no_digest_but_layers_and_weights_do(tmp_path, config):
    batches = config.features.model_copy(update={"batch_seconds": 1.0})
    layers = config.features.model_copy(update={"layers": (0, 1, 2)})
    settings, weights = STAGE.settings(config), ssl_weights(config)
    assert STAGE.settings(config.model_copy(update={"features": batches})) == settings
    assert STAGE.settings(config.model_copy(update={"features": layers})) != settings
    file = tmp_path / "ssl" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert ssl_weights(config) != weights


def ssl_weights(config):
    return Fingerprints().of(STAGE.sources(config)["ssl"])
