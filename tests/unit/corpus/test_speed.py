from dataclasses import replace

import pytest
from support import tiny_config, write_corpus

from pipeline.audio.utterance import CorpusError, Segment, Utterance
from pipeline.corpus.speed import read_split_or_copy
from pipeline.storage.artifacts import Artifact

TRAINED = Utterance("a", "train", "a.wav", 0.5, 1.8, "s", "one two", (Segment(0.0, 0.9, "w"),))
VALID = replace(TRAINED, utt_id="b", split="valid")


@pytest.fixture
def config(tmp_path):
    return tiny_config(tmp_path, training={"speeds": [1.1, 1, 0.9]})


def corpus_of(tmp_path, *utterances):
    return write_corpus(Artifact(str(tmp_path / "corpus")), list(utterances))


def test_a_copy_is_the_training_split_at_another_speed(tmp_path, config):
    corpus = corpus_of(tmp_path, TRAINED, VALID)
    assert config.speed_copies == {"train_sp0.9": 0.9, "train_sp1.1": 1.1}
    [copy] = read_split_or_copy(config, corpus, "train_sp0.9")
    assert copy == replace(
        TRAINED,
        utt_id="sp0.9-a",
        split="train_sp0.9",
        duration=1.8 / 0.9,
        alignment=None,
        speed=0.9,
    )
    for split, recorded in (("train", TRAINED), ("valid", VALID)):
        assert read_split_or_copy(config, corpus, split) == [replace(recorded, alignment=None)]


def test_a_corpus_that_has_the_ids_of_a_copy_is_refused(tmp_path, config):
    corpus = corpus_of(tmp_path, TRAINED, replace(TRAINED, utt_id="sp1.1-a"), VALID)
    assert len(read_split_or_copy(config, corpus, "train")) == 2
    with pytest.raises(CorpusError, match=r"'sp1.1-a' .* has it already, .* leave out"):
        read_split_or_copy(config, corpus, "train_sp1.1")


def test_no_split_of_the_corpus_is_called_as_a_copy_is(tmp_path):
    corpus = {"splits": {"valid": "train_sp0.9"}}
    with pytest.raises(
        ValueError, match=r"names \['train_sp0.9'\], as training.speeds calls a copy"
    ):
        tiny_config(tmp_path, corpus=corpus, training={"speeds": [0.9, 1.0]})
    assert tiny_config(tmp_path, corpus=corpus, training={"speeds": [1.0, 1.1]})
