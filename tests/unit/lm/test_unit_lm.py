import random

import numpy as np
import pytest
import torch

from pipeline.config import CausalTransformer, LmSubwords, UnitLm
from pipeline.lm.causal_lm import CausalLm
from pipeline.lm.unit_lm import UnitLm as Model
from pipeline.units.subwords import Subwords as UnitSubwords

NUM_UNITS = 8
TRANSFORMER = CausalTransformer(dim=16, layers=1, heads=2, feedforward_dim=32)


def random_lm(spread=0.5, **settings):
    chance = np.random.default_rng(0)
    units = [chance.integers(NUM_UNITS, size=40), np.arange(NUM_UNITS)]
    subwords = UnitSubwords.train(UnitLm(transformer=TRANSFORMER, **settings), units)
    torch.manual_seed(0)
    model = CausalLm.build(TRANSFORMER, len(subwords) + 1, len(subwords)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=spread)
    return Model(
        model,
        subwords,
        num_units=NUM_UNITS,
        tokenizer="feed",
        units_per_second=50.0,
        symbols_per_second=20.0,
    )


BPE = {"subwords": LmSubwords(kind="bpe", vocabulary_size=12)}


@pytest.mark.parametrize("settings", [{}, {"deduplicate": False}, BPE])
def test_a_saved_model_foresees_the_same(tmp_path, settings):
    lm = random_lm(**settings)
    lm.save_pretrained(tmp_path)
    loaded = Model.from_pretrained(tmp_path)
    units = [[3, 3, 1, 7], [2]]
    symbols = [lm.encode(each) for each in units]
    assert lm.log_probs(symbols) == loaded.log_probs([loaded.encode(each) for each in units])
    assert (loaded.num_units, loaded.tokenizer) == (NUM_UNITS, "feed")
    assert (loaded.units_per_second, loaded.symbols_per_second) == (50.0, 20.0)


@torch.no_grad()
def test_a_sequence_has_the_probability_of_its_symbols_and_its_end():
    lm = random_lm(deduplicate=False)
    symbols = lm.encode([3, 3, 1])
    assert len(symbols) == 3
    log_probs_NV = (
        lm.model.network(torch.tensor([[lm.model.edge, *symbols.tolist()]]))
        .logits[0]
        .log_softmax(-1)
    )
    expected = sum(
        float(log_probs_NV[n, symbol])
        for n, symbol in enumerate([*symbols.tolist(), lm.model.edge])
    )
    assert lm.log_probs([symbols]) == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("settings", [{}, {"deduplicate": False}, BPE])
def test_what_follows_begins_with_the_prompt_and_comes_from_the_seed(settings):
    lm, prompt = random_lm(**settings), [3, 3, 1, 1, 7]
    units = lm.go_on(prompt, 2.0, seed="a")
    begins = prompt if settings.get("deduplicate") is False else [3, 1, 7]
    assert units[: len(begins)].tolist() == begins
    assert set(units.tolist()) <= set(range(NUM_UNITS))
    others = [lm.go_on(prompt, 2.0, seed=seed).tolist() for seed in "abcdefgh"]
    assert others[0] == units.tolist()
    assert len({tuple(each) for each in others}) > 1


def test_seconds_bound_what_follows():
    """Twenty symbols a second; a model that never ends goes on for as long as it may."""
    lm = random_lm(deduplicate=False)
    with torch.no_grad():
        lm.model.network.lm_head.weight[lm.model.edge] = 0
        lm.model.network.lm_head.weight.mul_(0.01)
    assert max(len(lm.go_on([1], 0.5, seed=str(seed))) for seed in range(5)) == 11
    assert lm.go_on([1, 2], 0.0).tolist() == [1, 2]


def test_a_low_temperature_takes_the_likeliest():
    lm = random_lm(deduplicate=False)
    cold = [lm.go_on([1, 2], 1.0, temperature=1e-6, seed=seed).tolist() for seed in "abc"]
    assert cold[0] == cold[1] == cold[2]
    symbols = [*lm.encode([1, 2]).tolist()]
    for unit in cold[0][2:]:
        read = torch.tensor([[lm.model.edge, *symbols]])
        logits_V = lm.model.network(read).logits[0, -1]
        logits_V[0] = -torch.inf
        symbols.append(int(logits_V.argmax()))
        assert lm.subwords.decode(symbols[-1:]).tolist() == [unit]


def test_draws_have_the_probabilities_of_the_model():
    lm = random_lm()
    log_probs_V = torch.tensor([0.3, 0.1, 0.2, 0.4]).log()  # the first is "unknown", never drawn
    chance = random.Random(0)  # noqa: S311
    drawn = np.bincount([lm._draw(log_probs_V, 1.0, chance) for _ in range(7000)], minlength=4)
    assert drawn[0] == 0
    np.testing.assert_allclose(drawn[1:] / 7000, np.array([1, 2, 4]) / 7, atol=0.02)
    drawn = np.bincount([lm._draw(log_probs_V, 0.5, chance) for _ in range(7000)], minlength=4)
    np.testing.assert_allclose(drawn[1:] / 7000, np.array([1, 4, 16]) / 21, atol=0.02)


def test_bad_prompts_and_folders_are_errors(tmp_path):
    lm = random_lm()
    with pytest.raises(ValueError, match="without units cannot be continued"):
        lm.go_on([], 1.0)
    with pytest.raises(ValueError, match="between 0 and 7, got 3 to 8"):
        lm.go_on([3, 8], 1.0)
    with pytest.raises(ValueError, match="not a language model of units"):
        Model.from_pretrained(tmp_path)
