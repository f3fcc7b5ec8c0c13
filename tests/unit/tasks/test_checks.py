"""What stages refuse as soon as the corpus is prepared, before anything is computed from it."""

import pytest
from support import write_corpus

from pipeline.audio.utterance import Utterance
from pipeline.config import Config
from pipeline.errors import is_for_user
from pipeline.storage.artifacts import Artifact
from tasks import train_joint, train_vocoder


@pytest.fixture
def corpus(tmp_path):
    rows = [("a", "train", "a dog"), ("b", "train", "a cat"), ("c", "valid", "a god")]
    utterances = [
        Utterance(utt_id, split, f"{utt_id}.wav", 0.0, 2.0, "ann", text)
        for utt_id, split, text in rows
    ]
    return write_corpus(Artifact(str(tmp_path)), utterances)


def config(**sections):
    return Config.model_validate(
        {
            "variant": "v",
            "corpus": {"kind": "manifest", "manifest": "m.jsonl"},
            "ssl": {"model": "m", "revision": "abc"},
            **sections,
        }
    )


@pytest.mark.parametrize("stage", [train_joint.STAGE, train_vocoder.STAGE])
def test_a_corpus_that_suits_is_taken(corpus, stage):
    stage.check(config(), {"prepare_corpus": corpus})


@pytest.mark.parametrize(
    ("stage", "sections", "message"),
    [
        (
            train_joint.STAGE,
            {"asr": {"text": {"kind": "sentencepiece", "vocabulary_size": 500}}},
            r"set asr\.text\.vocabulary_size to",
        ),
        (train_joint.STAGE, {"codebook": {"num_units": 199}}, r"the training split stores 198"),
        (train_vocoder.STAGE, {"vocoder": {"unseen_speaker": "bob"}}, "'bob' is not among"),
    ],
)
def test_one_that_does_not_is_refused(corpus, stage, sections, message):
    with pytest.raises(Exception, match=message) as caught:
        stage.check(config(**sections), {"prepare_corpus": corpus})
    assert is_for_user(caught.value)


def test_without_units_their_number_does_not_matter(corpus):
    continuous = {"quantizer": {"kind": "none"}, "codebook": {"num_units": 199}}
    train_joint.STAGE.check(config(**continuous), {"prepare_corpus": corpus})
