import pytest
import torch
from reference import soft_assignment

from pipeline.quantizer.layer_mix import LayerMix


def hidden(num_layers, seed=0):
    return torch.randn((num_layers, 2, 5, 3), generator=torch.Generator().manual_seed(seed))


def test_the_initial_layer_gets_its_mass_and_the_others_share_the_rest():
    mix = LayerMix(4, initial=2, initial_mass=0.7, learned=True)
    torch.testing.assert_close(mix.weights_L, torch.tensor([0.1, 0.1, 0.7, 0.1]))


def test_the_mix_and_its_gradients_are_the_naive_ones():
    mix = LayerMix(3, initial=0, initial_mass=0.5, learned=True)
    layers = hidden(3).requires_grad_()
    mixed = mix(layers)
    expected = soft_assignment.mixed(layers.flatten(1).tolist(), mix.logits_L.tolist())
    torch.testing.assert_close(mixed.flatten().double(), torch.tensor(expected).double())

    upstream = hidden(3, seed=1)[0]
    (mixed * upstream).sum().backward()
    logits = mix.logits_L.detach().double().requires_grad_()
    powers = logits.exp()
    total = sum(
        (powers[i] / powers.sum()) * (layers[i].detach().double() * upstream).sum()
        for i in range(3)
    )
    total.backward()
    torch.testing.assert_close(mix.logits_L.grad.double(), logits.grad, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(layers.grad[1], mix.weights_L[1].detach() * upstream)


def test_one_layer_is_the_identity_and_learns_nothing():
    mix = LayerMix(1, initial=0, initial_mass=0.8, learned=True)
    layers = hidden(1).bfloat16()
    assert torch.equal(mix(layers), layers[0])
    assert mix(layers).dtype == torch.bfloat16
    assert mix.weights_L.tolist() == [1.0]
    assert not mix.logits_L.requires_grad


def test_fixed_weights_take_no_gradient():
    assert not LayerMix(2, 0, 0.8, learned=False).logits_L.requires_grad


def test_autocast_does_not_lower_the_precision():
    mix = LayerMix(3, initial=1, initial_mass=0.5, learned=True)
    layers = hidden(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mix(layers)
    assert torch.equal(mixed, mix(layers))


def test_layers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 hidden layers for 3 layer weights"):
        LayerMix(3, 0, 0.5, learned=True)(hidden(2))
    with pytest.raises(ValueError, match="initial layer 3"):
        LayerMix(3, 3, 0.5, learned=True)
    with pytest.raises(ValueError, match="initial_mass"):
        LayerMix(3, 0, 1.0, learned=True)
