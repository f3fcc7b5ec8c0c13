"""Texts as targets: what cannot be learnt is found from the prepared corpus alone."""

import sys
from subprocess import run

import pytest
from support import write_corpus

from pipeline.asr.targets import check_targets, target_of, text_pieces
from pipeline.asr.text_pieces import TextPieceError, TextPieces
from pipeline.audio.unusable import UnusableError
from pipeline.audio.utterance import CorpusError, Utterance
from pipeline.config import Config
from pipeline.storage.artifacts import Artifact

TRAIN = ["the cat sat on the mat", "a dog sat", "cats and dogs"] * 4
CHARACTERS = {"kind": "characters"}


def config(max_reject_share=0.05, pool=1, **asr):
    return Config.model_validate(
        {
            "variant": "v",
            "corpus": {
                "kind": "manifest",
                "manifest": "m.jsonl",
                "max_reject_share": max_reject_share,
            },
            "asr": {"subsampling": 1, **asr},
            "features": {"pool": pool},
            "vocoder": {"enabled": False},
            "ssl": {"model": "m", "revision": "abc"},
        }
    )


def pieces(size):
    return {"kind": "sentencepiece", "vocabulary_size": size}


@pytest.fixture
def corpus(tmp_path):
    def write(train=TRAIN, valid=("a cat",), seconds=3.0):
        utterances = [
            Utterance(f"{split}-{number}", split, f"{number}.wav", 0.0, seconds, "ann", text)
            for split, texts in (("train", train), ("valid", valid))
            for number, text in enumerate(texts)
        ]
        return write_corpus(Artifact(str(tmp_path / "corpus")), utterances)

    return write


@pytest.mark.parametrize("text", [CHARACTERS, pieces(15)])
def test_what_can_be_learnt_passes(corpus, text):
    check_targets(config(text=text), corpus())


@pytest.mark.parametrize("text", [CHARACTERS, pieces(15)])
def test_texts_in_other_characters_than_the_training_texts_are_refused_in_words(corpus, text):
    with pytest.raises(CorpusError) as caught:
        check_targets(config(text=text), corpus(valid=["ÇÄÖ", "ß"]))
    assert str(caught.value).splitlines()[0] == (
        "2 of 2 utterances of split 'valid' cannot be trained on, more than "
        "corpus.max_reject_share 0.05 allows:"
    )
    assert "  2 x characters in no training transcript, such as valid-0 (0.wav): " in str(
        caught.value
    )
    assert "['Ä', 'Ç', 'Ö'] in 'ÇÄÖ'" in str(caught.value)
    assert "Reject(" not in str(caught.value)


def test_a_share_of_unknown_texts_is_allowed_as_for_any_reject(corpus):
    mixed = corpus(valid=["ß", *["a cat"] * 9])
    check_targets(config(max_reject_share=0.1), mixed)
    with pytest.raises(CorpusError, match=r"1 of 10 utterances of split 'valid'"):
        check_targets(config(max_reject_share=0.09), mixed)


def test_texts_that_subsampling_leaves_too_few_frames_are_refused(corpus):
    short = corpus(seconds=1.2)  # 59 frames, 15 after subsampling, for up to 22 characters
    check_targets(config(), short)
    with pytest.raises(
        CorpusError, match=r"4 of 12 utterances of split 'train' .*\n  4 x text is l"
    ):
        check_targets(config(subsampling=4), short)
    with pytest.raises(CorpusError, match=r"4 x text is longer .*: 22 pieces in 14 frames"):
        check_targets(config(pool=4), short)
    check_targets(config(pool=2), short)  # 29 frames


@pytest.mark.parametrize(
    ("size", "allowed"),
    [(5000, r"to \d+ or less"), (5, "to 13 or more, a piece for each character")],
)
def test_a_vocabulary_that_the_texts_do_not_allow_is_refused_with_one_that_they_do(
    corpus, size, allowed
):
    with pytest.raises(TextPieceError, match=f"set asr.text.vocabulary_size {allowed}") as caught:
        check_targets(config(text=pieces(size)), corpus())
    nearest = int(str(caught.value).partition("vocabulary_size to ")[2].split()[0])
    check_targets(config(text=pieces(nearest)), corpus())


def test_a_split_without_texts_is_refused(corpus):
    with pytest.raises(TextPieceError, match="no text to make pieces from"):
        text_pieces(config(), corpus(train=[""]))


def test_a_target_is_the_text_where_it_fits():
    characters = TextPieces.train(config().asr.text, ["abc"])
    assert target_of("aab", 4, characters, 1) == (2, 2, 3)
    with pytest.raises(UnusableError, match="text is longer than its frames allow: 3 pieces in 3"):
        target_of("aab", 3, characters, 1)
    with pytest.raises(
        UnusableError, match=r"characters in no training transcript: \['x'\] in 'x'"
    ):
        target_of("x", 9, characters, 1)


def test_checking_imports_no_torch():
    code = "import pipeline.asr.targets, sys; assert 'torch' not in sys.modules"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
