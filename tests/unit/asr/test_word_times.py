"""Times of pieces and words: the likeliest CTC alignment, against all alignments there are."""

import itertools
import math

import numpy as np
import pytest
import torch

from pipeline import config
from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import TextPieces
from pipeline.asr.word_times import FrameTimes, TimedPiece, Word, align, best_alignment, words_of
from pipeline.audio.frame_grid import FrameGrid

TIMES = FrameTimes(0.0, 0.04)


def best_by_enumeration(log_probs_TV, target):
    """The frames of each piece in the likeliest of all V^T alignments that spell `target`."""
    num_frames, num_pieces = log_probs_TV.shape

    def spelled(path):
        return [piece for piece, _ in itertools.groupby(path) if piece]

    paths = itertools.product(range(num_pieces), repeat=num_frames)
    path = max(
        (path for path in paths if spelled(path) == list(target)),
        key=lambda path: sum(log_probs_TV[t, piece].item() for t, piece in enumerate(path)),
    )
    runs = [list(run) for piece, run in itertools.groupby(range(num_frames), path.__getitem__)]
    runs = [run for run in runs if path[run[0]]]
    scores = [np.mean([log_probs_TV[t, path[t]].exp().item() for t in run]) for run in runs]
    return [(run[0], run[-1], score) for run, score in zip(runs, scores, strict=True)]


@pytest.mark.parametrize("target", [[1], [1, 2], [1, 1], [2, 1, 1], [1, 2, 1]])
def test_the_likeliest_of_all_alignments_is_found(target):
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        log_probs_TV = (2 * torch.randn(6, 3, generator=generator)).log_softmax(-1)
        found, wanted = (
            each(log_probs_TV, target) for each in (best_alignment, best_by_enumeration)
        )
        assert [span[:2] for span in found] == [span[:2] for span in wanted]
        np.testing.assert_allclose([span[2] for span in found], [s[2] for s in wanted], rtol=1e-5)


def test_a_text_that_ctc_cannot_align_is_spread_evenly():
    log_probs_TV = torch.randn(4, 3).log_softmax(-1)
    assert best_alignment(log_probs_TV, [1, 1, 1]) == [(0, 0, 0.0), (1, 1, 0.0), (2, 2, 0.0)]
    assert best_alignment(log_probs_TV, []) == []


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_words_are_what_spaces_separate(kind):
    texts = ["ab ba", "cab ab", "ba cab"]
    settings = config.TextPieces(kind=kind, vocabulary_size=8)
    pieces = TextPieces.train(settings, texts)
    for text in texts:
        spelled = [pieces.spelling(piece) for piece in pieces.encode(text)]
        assert "".join(spelled).strip() == text
        timed = [TimedPiece(each, i, i + 1, i / 10) for i, each in enumerate(spelled)]
        words = words_of(timed)
        assert [word.text for word in words] == text.split()
        assert all(0 <= a.start < a.end <= b.start for a, b in itertools.pairwise(words))


def test_a_word_has_the_times_and_the_mean_score_of_its_pieces():
    timed = [
        TimedPiece("a", 0.1, 0.2, 0.9),
        TimedPiece("b", 0.3, 0.4, 0.5),
        TimedPiece(" ", 0.5, 0.6, 0.1),
        TimedPiece("ab", 0.7, 0.8, 1.0),
        TimedPiece("c d", 0.8, 0.9, 0.5),
    ]
    assert words_of(timed) == [
        Word("ab", 0.1, 0.4, pytest.approx(0.7)),
        Word("abc", 0.7, 0.9, 0.75),
        Word("d", 0.8, 0.9, 0.5),
    ]
    assert words_of([]) == []


def test_frames_have_the_times_of_the_ssl_frames_that_they_were_made_of():
    grid = FrameGrid(400, 320, 16000)
    # SSL frames are centred on 0.0125 s and every 0.02 s after it.
    start, end = FrameTimes.of(grid, 1).span(3, 4)
    assert (start, end) == (pytest.approx(0.0625), pytest.approx(0.1025))
    start, end = FrameTimes.of(grid, 2).span(0, 0)
    assert (start, end) == (0.0, pytest.approx(0.0325))
    assert FrameTimes.of(grid, 2).span(2, 2)[0] == pytest.approx(0.0925 - 0.02)


def test_a_model_aligns_texts_with_utterances_of_any_length_in_one_batch():
    torch.manual_seed(0)
    settings = config.Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=32, conv_kernel=5)
    pieces = TextPieces.train(config.TextPieces(), ["ab c"])
    model = AsrModel(settings, None, 16, pieces).eval()
    inputs = [np.random.default_rng(seed).normal(size=(30 - 9 * seed, 16)) for seed in range(3)]
    texts = ["ab cab", "", "c"]
    together = align(model, model.hear(inputs), texts, TIMES)
    assert ["".join(piece.spelling for piece in timed) for timed in together] == texts
    for frames, text, timed in zip(inputs, texts, together, strict=True):
        (alone,) = align(model, model.hear([frames]), [text], TIMES)
        assert [piece[:3] for piece in alone] == [piece[:3] for piece in timed]
        assert all(0 <= piece.score <= 1 for piece in timed)
        assert all(piece.end <= TIMES.step * math.ceil(len(frames) / 2) + 1e-9 for piece in timed)
