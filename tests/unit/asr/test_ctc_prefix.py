import math

import pytest
import torch
from reference.ctc import negative_log_likelihood, prefix_probability, texts_with_probabilities

from pipeline.asr.ctc_prefix import NEVER, CtcPrefix

VOCABULARY = 4  # the blank and three pieces
PREFIXES = [(), (1,), (2, 2), (1, 2, 1), (3, 3, 3), (1, 2, 3, 1)]


def scorer_of(*log_probs):
    """Of utterances of any lengths, with garbage after their ends."""
    lengths = torch.tensor([len(each) for each in log_probs])
    padded = torch.nn.utils.rnn.pad_sequence(log_probs, batch_first=True, padding_value=-0.3)
    return CtcPrefix.of(padded, torch.arange(padded.shape[1]) >= lengths[:, None])


def state_of(scorer, prefix):
    """The state of one prefix in every utterance."""
    state = scorer.begin()
    num_utterances = len(state.last_BN)
    for piece in prefix:
        rows = torch.zeros(num_utterances, 1, dtype=torch.long)
        state = scorer.extend(state, rows, torch.full_like(rows, piece))
    return state


def logarithm(probability):
    return math.log(probability) if probability > 0 else NEVER


def scores_of(scorer, state):
    """Of every piece after the first prefix of the first utterance."""
    pieces = torch.arange(VOCABULARY)[None].expand(len(state.last_BN), -1)
    return scorer.score(state, torch.zeros_like(pieces), pieces)[0]


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("alone", [True, False])
def test_scores_against_all_alignments(prefix, sharpness, alone):
    torch.manual_seed(len(prefix))
    log_probs = (sharpness * torch.randn(5, VOCABULARY)).double().log_softmax(-1)
    texts = texts_with_probabilities(log_probs)
    other = torch.randn(9, VOCABULARY).double().log_softmax(-1)
    scorer = scorer_of(log_probs) if alone else scorer_of(log_probs, other)
    state = state_of(scorer, prefix)
    complete = scorer.complete(state)[0].item()
    assert complete == pytest.approx(logarithm(texts.get(prefix, 0.0)), rel=1e-9)
    scores, all_scores = scores_of(scorer, state), scorer.score_all(state)[0, 0]
    bound = sum(scorer.bound(state))[0, 0]
    for piece in range(1, VOCABULARY):
        longer = (*prefix, piece)
        mass = sum(p for text, p in texts.items() if text[: len(longer)] == longer)
        assert scores[piece].item() == pytest.approx(logarithm(mass), rel=1e-9)
        assert all_scores[piece].item() == pytest.approx(logarithm(mass), rel=1e-9)
        assert prefix_probability(log_probs, longer) == pytest.approx(mass, rel=1e-9)
        assert bound[piece].item() >= logarithm(mass) * (1 + 1e-6) - 1e-4


def test_a_text_of_many_pieces_is_no_likelier_than_many_frames_without_a_blank():
    torch.manual_seed(0)
    log_probs = torch.randn(5, VOCABULARY).double().log_softmax(-1)
    bound = scorer_of(log_probs, torch.randn(7, VOCABULARY).log_softmax(-1)).at_least(8)[0].exp()
    texts = texts_with_probabilities(log_probs)
    blank = log_probs[:, 0].exp()
    assert bound[0].item() == pytest.approx(1.0)
    assert bound[1].item() == pytest.approx(1 - blank.prod().item())
    assert bound[5].item() == pytest.approx((1 - blank).prod().item())
    assert bound[6:].max() < 1e-200
    for length in range(9):
        mass = sum(p for text, p in texts.items() if len(text) >= length)
        assert bound[length].item() >= mass - 1e-12


def test_many_prefixes_of_many_utterances_score_as_each_alone():
    torch.manual_seed(0)
    utterances = [torch.randn(length, 6).log_softmax(-1) for length in (30, 17, 23)]
    prefixes = [[(1, 2), (3, 3)], [(5, 1), (1, 1)], [(2, 4), (4, 4)]]
    scorer = scorer_of(*utterances)
    state = scorer.begin()
    for step in range(2):
        pieces = torch.tensor([[prefix[step] for prefix in of_one] for of_one in prefixes])
        rows = torch.zeros(3, 2, dtype=torch.long) if step == 0 else torch.tensor([[0, 1]] * 3)
        state = scorer.extend(state, rows, pieces)
    kept = torch.tensor([2, 0])
    few, few_state = scorer.keep(kept), state.keep(kept)
    for place, utterance in enumerate(kept.tolist()):
        alone = scorer_of(utterances[utterance])
        for row, prefix in enumerate(prefixes[utterance]):
            wanted = alone.score_all(state_of(alone, prefix))[0, 0]
            torch.testing.assert_close(few.score_all(few_state)[place, row], wanted)


def test_long_confident_utterances_stay_exact():
    torch.manual_seed(0)
    log_probs = (12 * torch.randn(600, 8)).double().log_softmax(-1)
    target = torch.randint(1, 8, (150,)).tolist()
    scorer = scorer_of(log_probs)
    state = state_of(scorer, target)
    # The oracle works with probabilities, so its frames are scaled up to stay above underflow.
    lift = 8.0
    wanted = -negative_log_likelihood(log_probs + lift, target) - lift * len(log_probs)
    assert scorer.complete(state).item() == pytest.approx(wanted, rel=1e-9)
