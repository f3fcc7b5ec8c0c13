"""KenLM as a model of words, where it is installed: the same scores as ours and the definition's."""

import itertools
import sys

import pytest
import torch
from reference.ngrams import log_p_sentence, read
from support import tiny_config

from pipeline import config
from pipeline.asr.text_pieces import TextPieces
from pipeline.config import FusedLanguageModel
from pipeline.lm.arpa import LanguageModelError, read_arpa, write_arpa
from pipeline.lm.fused import load
from pipeline.lm.kenlm_words import KenlmWords
from pipeline.lm.witten_bell import estimate
from pipeline.lm.word_scorer import WordScorer
from tasks.evaluate_asr import STAGE

TEXTS = ["ab a", "ab ba", "a ab ab", "ba", "b a b"]


@pytest.fixture
def arpa(tmp_path):
    path = str(tmp_path / "words.arpa")
    write_arpa(path, estimate([text.split() for text in TEXTS], 3))
    return path


def test_every_sentence_has_the_definitions_probability(arpa):
    pytest.importorskip("kenlm")
    with open(arpa, encoding="utf-8") as file:  # noqa: PTH123
        listed = read(file.read())
    model = KenlmWords(arpa)
    for words in itertools.product(["a", "ab", "ba", "unheard"], repeat=3):
        total, context = 0.0, model.begin()
        for word in words:
            log_prob, context = model.score(context, word)
            total += log_prob
        total += model.score_end(context)
        assert total == pytest.approx(log_p_sentence(listed, words), abs=1e-4)


def test_the_search_hears_the_same_of_both(arpa):
    pytest.importorskip("kenlm")
    pieces = TextPieces.train(config.TextPieces(), TEXTS)
    ours, theirs = (WordScorer(model, pieces) for model in (read_arpa(arpa), KenlmWords(arpa)))
    states = [each.begin(1, torch.device("cpu")) for each in (ours, theirs)]
    for newest in [1, *pieces.encode("ab ba bb")]:
        piece = torch.tensor([newest])
        (ours_1V, first), (theirs_1V, second) = (
            each.step(piece, state) for each, state in zip((ours, theirs), states, strict=True)
        )
        torch.testing.assert_close(ours_1V, theirs_1V, atol=1e-4, rtol=0)
        states = [first, second]


def test_what_kenlm_cannot_read_is_named(tmp_path, monkeypatch):
    pieces = TextPieces.train(config.TextPieces(), TEXTS)
    binary = tmp_path / "x.bin"
    binary.write_bytes(b"no model")
    settings = FusedLanguageModel(path=str(binary))
    if "kenlm" in sys.modules:
        with pytest.raises(LanguageModelError, match=r"x.bin cannot be read by kenlm"):
            load(settings, pieces)
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(LanguageModelError, match="pip install kenlm, or name the ARPA file"):
        load(settings, pieces)
    with pytest.raises(ValueError, match="name the ARPA file for level pieces"):
        FusedLanguageModel(path=str(binary), level="pieces")
    with pytest.raises(ValueError, match="kenlm opens local files alone: download"):
        FusedLanguageModel(path="s3://bucket/x.bin")
    assert FusedLanguageModel(path="s3://bucket/x.arpa").path


def test_a_missing_kenlm_is_found_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kenlm", None)
    for path, needed in (("x.bin", True), ("x.arpa", False), (None, False)):
        search = config.AsrEvaluation(language_model=FusedLanguageModel(path=path))
        named = tiny_config(tmp_path).model_copy(update={"asr_evaluation": search})
        if needed:
            with pytest.raises(LanguageModelError, match="pip install kenlm"):
                STAGE.requires(named)
        else:
            STAGE.requires(named)
