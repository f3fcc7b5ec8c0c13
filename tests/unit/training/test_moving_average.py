from contextlib import suppress

import numpy as np
import torch
from torch import nn

from pipeline.training.moving_average import MovingAverage


def make_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[1].bias.requires_grad_(requires_grad=False)
    return model


def walk(model, average, steps):
    """Random steps; returns the weights after each, float64."""
    states = []
    for step in steps:
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter))
        average.update(step)
        states.append({n: p.detach().double().numpy() for n, p in model.named_parameters()})
    return states


def test_it_is_the_formula_with_a_decay_that_grows():
    model = make_model()
    average = MovingAverage(model, 0.7)
    wanted = {n: p.detach().double().numpy() for n, p in model.named_parameters()}
    for step, weights in enumerate(walk(model, average, range(40))):
        decay = min(0.7, (1 + step) / (10 + step))
        wanted = {n: decay * wanted[n] + (1 - decay) * weights[n] for n in wanted}
    assert average.weights.keys() == wanted.keys() - {"1.bias"}
    for name, weight in average.weights.items():
        np.testing.assert_allclose(weight.numpy(), wanted[name], atol=2e-6)


def test_weights_that_never_move_are_their_own_average_to_the_bit():
    model = make_model()
    average = MovingAverage(model, 0.99)
    for step in range(20):
        average.update(step)
    assert all(
        torch.equal(average.weights[n], p) for n, p in model.named_parameters() if n != "1.bias"
    )


def test_it_is_in_the_model_within_and_the_weights_are_back_afterwards():
    model = make_model()
    average = MovingAverage(model, 0.9)
    walk(model, average, range(3))
    own = {name: weight.clone() for name, weight in model.state_dict().items()}
    with suppress(RuntimeError), average.applied():
        within = {name: weight.clone() for name, weight in model.state_dict().items()}
        raise RuntimeError
    assert all(torch.equal(within[name], weight) for name, weight in average.weights.items())
    assert not torch.equal(within["0.weight"], own["0.weight"])
    assert all(torch.equal(model.state_dict()[name], weight) for name, weight in own.items())


def test_without_a_decay_there_is_none():
    model = make_model()
    average = MovingAverage(model, None)
    walk(model, average, range(3))
    own = model[0].weight.clone()
    with average.applied():
        assert torch.equal(model[0].weight, own)
    assert average.weights == {}


def test_a_loaded_one_goes_on():
    first, second = make_model(), make_model()
    averages = MovingAverage(first, 0.9), MovingAverage(second, 0.9)
    walk(first, averages[0], range(5))
    second.load_state_dict(first.state_dict())
    averages[1].load(averages[0].weights)
    for model, average in zip((first, second), averages, strict=True):
        torch.manual_seed(7)
        walk(model, average, range(5, 9))
    assert all(torch.equal(averages[1].weights[n], w) for n, w in averages[0].weights.items())
