from itertools import product

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from reference import causal_lm as reference
from transformers import AutoModelForCausalLM

from pipeline.config import CausalTransformer
from pipeline.lm.causal_lm import CausalLm

SETTINGS = CausalTransformer(dim=16, layers=2, heads=2, feedforward_dim=32, dropout=0.2)
SEQUENCES = [[3, 1, 4, 1, 5], [2], [], [0, 0, 5, 3]]


def random_lm(vocabulary_size=7, edge=6, seed=0):
    torch.manual_seed(seed)
    model = CausalLm.build(SETTINGS, vocabulary_size, edge).eval()
    for parameter in model.parameters():  # new ones are nearly uniform
        torch.nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("edge", [6, 1])
def test_log_probabilities_are_those_of_the_slow_oracle(edge):
    model = random_lm(edge=edge).double()
    weights = {name: value.numpy() for name, value in model.network.state_dict().items()}
    found_BN = model(SEQUENCES).detach().numpy()
    for found_N, symbols in zip(found_BN, SEQUENCES, strict=True):
        expected = reference.log_probs(weights, SETTINGS.heads, edge, symbols)
        np.testing.assert_allclose(found_N[: len(expected)], expected, rtol=1e-5, atol=1e-6)
        assert not found_N[len(expected) :].any()


def test_a_sequence_does_not_depend_on_its_batch():
    model = random_lm()
    together_BN = model(SEQUENCES)
    for row_N, symbols in zip(together_BN, SEQUENCES, strict=True):
        torch.testing.assert_close(row_N[: len(symbols) + 1], model([symbols])[0])


@torch.no_grad()
def test_probabilities_of_all_sequences_add_up_to_one():
    model, symbols = random_lm(vocabulary_size=4, edge=3), range(3)
    total = 0.0
    for length in range(4):
        of_length = [list(chosen) for chosen in product(symbols, repeat=length)]
        log_probs_BN = model(of_length).double()
        total += float(log_probs_BN.sum(1).exp().sum())
    longer = float(log_probs_BN[:, :-1].sum(1).exp().sum() - log_probs_BN.sum(1).exp().sum())
    assert total + longer == pytest.approx(1, abs=1e-6)


@torch.no_grad()
def test_reading_several_symbols_at_once_ends_as_reading_one_after_the_other():
    model = random_lm()
    rows_BN = torch.tensor([[6, 3, 1, 4, 1], [6, 2, 2, 0, 5]])
    one_by_one = model.begin(2, model.device)
    for symbols_B in rows_BN.T:
        expected_BV, one_by_one = model.step(symbols_B, one_by_one)
    _, begun = model.step(rows_BN[:, 0], model.begin(2, model.device))
    found_BV, at_once = model.read(rows_BN[:, 1:], begun)
    torch.testing.assert_close(found_BV, expected_BV)
    following = torch.tensor([0, 3])
    torch.testing.assert_close(
        model.step(following, at_once)[0], model.step(following, one_by_one)[0]
    )


@torch.no_grad()
def test_steps_with_a_cache_say_what_whole_sequences_do():
    model = random_lm()
    rows = [[3, 1, 4, 1], [2, 2, 0, 5], [5, 4, 3, 2]]
    expected_BN = model(rows)
    state, read = model.begin(3, model.device), [model.edge] * 3
    for n in range(5):
        log_probs_BV, state = model.step(torch.tensor(read), state)
        read = [[*row, model.edge][n] for row in rows]
        torch.testing.assert_close(log_probs_BV[range(3), read], expected_BN[:, n])


@torch.no_grad()
def test_rows_that_are_taken_go_on_in_their_new_order_and_the_state_stays_as_it_is():
    model = random_lm()
    edges = torch.full((2,), model.edge)
    _, begun = model.step(edges, model.begin(2, model.device))
    _, state = model.step(torch.tensor([3, 2]), begun)
    for _ in range(2):
        taken = state.take(torch.tensor([1, 0, 1]))
        log_probs_BV, _ = model.step(torch.tensor([1, 0, 4]), taken)
        for row, history in enumerate([[2, 1], [3, 0], [2, 4]]):
            expected_BN = model([[*history, symbol] for symbol in range(6)])
            torch.testing.assert_close(log_probs_BV[row, :6], expected_BN[:, 2])


def test_a_saved_model_says_the_same_to_us_and_to_transformers(tmp_path):
    model = random_lm(edge=1)
    model.save_pretrained(tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".safetensors"}
    loaded = CausalLm.from_pretrained(tmp_path)
    assert (loaded.edge, loaded.vocabulary_size, loaded.training) == (1, 7, False)
    assert torch.equal(loaded(SEQUENCES), model(SEQUENCES))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    log_probs_NV = theirs(torch.tensor([[1, 3, 5]])).logits[0].log_softmax(-1)
    torch.testing.assert_close(log_probs_NV[range(3), [3, 5, 1]], model([[3, 5]])[0])


def test_weights_come_from_the_seed():
    first, again, other = (
        torch.cat([p.flatten() for p in random_lm(seed=seed).parameters()]) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("symbol", [-1, 7])
def test_a_symbol_outside_the_vocabulary_is_an_error(symbol):
    with pytest.raises(ValueError, match=r"between 0 and 6, got .*: was the language model"):
        random_lm()([[0], [2, symbol]])


def test_heads_must_divide_the_width_evenly():
    with pytest.raises(ValidationError, match="dim 20 must be an even multiple of heads 4"):
        CausalTransformer(dim=20, heads=4)
