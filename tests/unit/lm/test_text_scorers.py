"""N-gram models in the beam search: a text's sum is its log-probability, and the best text is found."""

import itertools

import numpy as np
import pytest
import torch
from reference.beam_search import ranked_texts
from reference.ctc import negative_log_likelihood
from reference.ngrams import log_p_sentence, read

from pipeline import config
from pipeline.asr.model import AsrModel
from pipeline.asr.scorer import Weighted
from pipeline.asr.search import beam_search
from pipeline.asr.text_pieces import TextPieces
from pipeline.lm.arpa import LanguageModelError, read_arpa, write_arpa
from pipeline.lm.piece_scorer import PieceScorer, written
from pipeline.lm.witten_bell import estimate
from pipeline.lm.word_scorer import WordScorer

TEXTS = ["ab a", "ab ba", "a ab ab", "ba", "b a b"]


def characters():
    return TextPieces.train(config.TextPieces(), TEXTS)


def sentencepieces():
    return TextPieces.train(config.TextPieces(kind="sentencepiece", vocabulary_size=7), TEXTS)


@pytest.fixture
def words_model(tmp_path):
    path = tmp_path / "words.arpa"
    write_arpa(str(path), estimate([text.split() for text in TEXTS], 3))
    return read_arpa(str(path)), read(path.read_text(encoding="utf-8"))


def pieces_model(tmp_path, pieces):
    path = tmp_path / "pieces.arpa"
    texts = [[written(pieces, piece) for piece in pieces.encode(text)] for text in TEXTS]
    write_arpa(str(path), estimate(texts, 3))
    return read_arpa(str(path)), read(path.read_text(encoding="utf-8"))


def sums(scorer, texts):
    """What a scorer says to each text, read as the search reads them: together, kept and repeated."""
    length = max(map(len, texts))
    totals = [0.0] * len(texts)
    state = scorer.begin(1, torch.device("cpu")).take(torch.zeros(len(texts), dtype=torch.long))
    newest = torch.ones(len(texts), dtype=torch.long)
    for place in range(length + 1):
        log_probs, after = scorer.step(newest, state)
        again, _ = scorer.step(newest, state)
        torch.testing.assert_close(again, log_probs)  # a state stays as it is
        assert (log_probs <= 0).all()
        for row, text in enumerate(texts):
            if place < len(text):
                totals[row] += log_probs[row, text[place]].item()
            elif place == len(text):
                totals[row] += log_probs[row, 1].item()
        state = after
        newest = torch.tensor([text[place] if place < len(text) else 2 for text in texts])
    return totals


@pytest.mark.parametrize("make", [characters, sentencepieces])
def test_a_text_has_the_sum_of_its_words_whatever_its_pieces(make, words_model):
    model, listed = words_model
    pieces = make()
    scorer = WordScorer(model, pieces)
    ids = range(2, len(pieces))
    texts = [text for length in range(4) for text in itertools.product(ids, repeat=length)]
    spelled = ["".join(map(pieces.spelling, text)).split() for text in texts]
    wanted = [log_p_sentence(listed, words) for words in spelled]
    np.testing.assert_allclose(sums(scorer, texts), wanted, atol=2e-4)


@pytest.mark.parametrize("make", [characters, sentencepieces])
def test_a_model_of_pieces_scores_each_piece(make, tmp_path):
    pieces = make()
    model, listed = pieces_model(tmp_path, pieces)
    scorer = PieceScorer(model, pieces)
    ids = range(2, len(pieces))
    texts = [text for length in range(4) for text in itertools.product(ids, repeat=length)]
    wanted = [log_p_sentence(listed, [written(pieces, piece) for piece in text]) for text in texts]
    np.testing.assert_allclose(sums(scorer, texts), wanted, atol=2e-4)


@pytest.mark.parametrize("level", ["words", "pieces"])
@pytest.mark.parametrize("bonus", [0.0, 1.0])
@torch.no_grad()
def test_the_search_finds_the_best_of_all_texts(level, bonus, words_model, tmp_path):
    pieces = characters()
    if level == "words":
        (model, listed), scorer_of = words_model, WordScorer
        tokens = lambda text: "".join(map(pieces.spelling, text)).split()  # noqa: E731
    else:
        (model, listed), scorer_of = pieces_model(tmp_path, pieces), PieceScorer
        tokens = lambda text: [written(pieces, piece) for piece in text]  # noqa: E731
    settings = {"embedding_dim": 16, "dim": 16, "heads": 2, "feedforward_dim": 32, "conv_kernel": 5}
    search = config.AsrEvaluation(beam_size=3**5, length_bonus=bonus, nbest=5)
    changed = 0
    for seed in range(3):
        torch.manual_seed(seed)
        asr = AsrModel(config.Asr(subsampling=1, **settings), None, 16, pieces).eval()
        asr.ctc_head.weight.mul_(8.0)
        heard = asr.hear([torch.randn(5, 16).numpy()])
        scorer = Weighted(scorer_of(model, pieces), 0.8)
        found = beam_search(heard, asr.decoder, search, [scorer])[0]

        def joint(text, weight=0.8, asr=asr, heard=heard):
            log_probs = heard.log_probs_BTV[0]
            padding = torch.zeros(1, 5, dtype=torch.bool)
            read_1S = torch.tensor([[1, *text]])
            next_SV = asr.decoder(read_1S, heard.frames_BTD, padding)[0].log_softmax(-1)
            attention = sum(next_SV[i, piece].item() for i, piece in enumerate([*text, 1]))
            ctc = -min(negative_log_likelihood(log_probs, list(text)), 1e30)
            fused = weight * log_p_sentence(listed, tokens(text)) if weight else 0.0
            return 0.4 * ctc + 0.6 * attention + fused + bonus * len(text)

        wanted = ranked_texts(range(2, len(pieces)), 5, joint)[:5]
        assert [each.score for each in found] == pytest.approx([s for _, s in wanted], abs=1e-3)
        assert found[0].pieces == wanted[0][0]
        alone = max(
            (text for n in range(6) for text in itertools.product(range(2, len(pieces)), repeat=n)),
            key=lambda text: joint(text, 0.0),
        )
        changed += alone != found[0].pieces
    assert changed  # the language model has a say


def test_models_that_do_not_fit_the_pieces_are_refused(words_model, tmp_path):
    pieces = characters()
    capitals = estimate([text.upper().split() for text in TEXTS], 2)
    with pytest.raises(LanguageModelError, match=r"cannot write most of .*, such as 'A'"):
        WordScorer(capitals, pieces)
    with pytest.raises(LanguageModelError, match="lacks most of the ASR model's pieces, such as"):
        PieceScorer(capitals, pieces)
