import math

import pytest
import torch
from reference.ctc import negative_log_likelihood, texts_with_probabilities

from pipeline.asr.ctc_prefix import NEVER, CtcPrefix

VOCABULARY = 4  # the blank and three units


def state_of(scorer, prefix):
    state = scorer.begin()
    for unit in prefix:
        state = scorer.extend(state, torch.tensor([unit]))
    return state


def logarithm(probability):
    return math.log(probability) if probability > 0 else NEVER


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
@pytest.mark.parametrize("prefix", [(), (1,), (2, 2), (1, 2, 1), (3, 3, 3), (1, 2, 3, 1)])
def test_scores_against_all_alignments(prefix, sharpness):
    torch.manual_seed(len(prefix))
    log_probs = (sharpness * torch.randn(5, VOCABULARY)).double().log_softmax(-1)
    texts = texts_with_probabilities(log_probs)
    scorer = CtcPrefix(log_probs)
    state = state_of(scorer, prefix)
    complete = scorer.complete(state).item()
    assert complete == pytest.approx(logarithm(texts.get(prefix, 0.0)), rel=1e-9)
    scores = scorer.score_extensions(state)[0]
    for unit in range(1, VOCABULARY):
        longer = (*prefix, unit)
        mass = sum(p for text, p in texts.items() if text[: len(longer)] == longer)
        assert scores[unit].item() == pytest.approx(logarithm(mass), rel=1e-9)


def test_many_hypotheses_score_as_each_alone():
    torch.manual_seed(0)
    scorer = CtcPrefix(torch.randn(30, 6).log_softmax(-1))
    prefixes = [(1, 2), (3, 3), (5, 1)]
    together = scorer.begin().take(torch.zeros(3, dtype=torch.long))
    for step in range(2):
        together = scorer.extend(together, torch.tensor([prefix[step] for prefix in prefixes]))
    for row, prefix in enumerate(prefixes):
        alone = scorer.score_extensions(state_of(scorer, prefix))[0]
        torch.testing.assert_close(scorer.score_extensions(together)[row], alone)


def test_long_confident_utterances_stay_exact():
    torch.manual_seed(0)
    log_probs = (12 * torch.randn(600, 8)).double().log_softmax(-1)
    target = torch.randint(1, 8, (150,)).tolist()
    scorer = CtcPrefix(log_probs)
    state = state_of(scorer, target)
    # The oracle works with probabilities, so its frames are scaled up to stay above underflow.
    lift = 8.0
    wanted = -negative_log_likelihood(log_probs + lift, target) - lift * len(log_probs)
    assert scorer.complete(state).item() == pytest.approx(wanted, rel=1e-9)
