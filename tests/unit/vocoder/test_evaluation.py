import pytest

from pipeline.audio.utterance import Utterance
from pipeline.vocoder.evaluation import evenly_spread


@pytest.mark.parametrize(
    ("count", "chosen"),
    [(1, [0]), (3, [0, 2, 4]), (6, [0, 1, 2, 3, 4, 5]), (9, [0, 1, 2, 3, 4, 5])],
)
def test_utterances_are_chosen_from_all_over_the_corpus(count, chosen):
    utterances = [Utterance(str(i), "test", "a.wav", 0.0, 1.0, "s", "a") for i in range(6)]
    assert [int(utterance.utt_id) for utterance in evenly_spread(utterances, count)] == chosen
