import copy

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMEncoder

from pipeline.features.cpu_layers import infer, keep_narrow_groups_in_float32, replace_linears


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (1, 7), (5, 2, 7)])
def test_inference_is_the_product_in_float64_but_for_rounding(shape, bias):
    torch.manual_seed(0)
    plain = nn.Linear(7, 3, bias=bias)
    inputs = torch.randn(shape).transpose(0, -2) if len(shape) > 2 else torch.randn(shape)
    with torch.inference_mode():
        found = infer(plain, inputs)
    expected = copy.deepcopy(plain).double()(inputs.double())
    torch.testing.assert_close(found.double(), expected, atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN")
def test_only_float32_without_gradients_goes_another_way(monkeypatch):
    asked = []
    own = functional.linear
    monkeypatch.setattr(functional, "linear", lambda *given: asked.append(given) or own(*given))
    layer = nn.Linear(4, 4)
    replace_linears(layer)
    with torch.inference_mode():
        layer(torch.ones(1, 4))
    assert not asked
    layer(torch.ones(1, 4)).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(1, 4)).dtype == torch.bfloat16
    with torch.no_grad():
        layer.double()(torch.ones(1, 4).double())
    assert len(asked) == 3


def test_layers_keep_their_parameters_and_names():
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.LayerNorm(3), nn.Linear(3, 2))).eval()
    before, names = model[1][1].weight, set(model.state_dict())
    replace_linears(model)
    assert model[0].forward.__func__ is infer
    assert model[1][1].weight is before
    assert set(model.state_dict()) == names
    assert not model[0].training


class Backbone(torch.nn.Module):
    def __init__(self, dim, groups):
        super().__init__()
        self.encoder = WavLMEncoder(
            WavLMConfig(
                hidden_size=dim,
                num_hidden_layers=0,
                num_conv_pos_embeddings=32,
                num_conv_pos_embedding_groups=groups,
            )
        )


@pytest.mark.parametrize(("dim", "groups"), [(16, 2), (128, 16), (64, 1)])
def test_bfloat16_agrees_with_float32_forward_and_backward(dim, groups):
    """On a processor with AMX, groups of 8 channels were off by 109 % of the result."""
    torch.manual_seed(0)
    backbone = Backbone(dim, groups)
    keep_narrow_groups_in_float32(backbone)
    convolution = backbone.encoder.pos_conv_embed.conv
    hidden_BDT, weights_BDT = torch.randn(2, dim, 100), torch.randn(2, dim, 101)
    results = []
    for enabled in (False, True):
        convolution.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            output_BDT = convolution(hidden_BDT)
        (output_BDT.float() * weights_BDT).sum().backward()
        gradient = convolution.parametrizations.weight.original1.grad.clone()
        results.append((output_BDT.detach().float(), gradient))
    for expected, rounded in zip(*results, strict=True):
        assert (rounded - expected).norm() < 0.01 * expected.norm()


def test_wide_groups_stay_in_bfloat16():
    backbone = Backbone(64, 4)
    keep_narrow_groups_in_float32(backbone)
    with torch.autocast("cpu", torch.bfloat16):
        output_BDT = backbone.encoder.pos_conv_embed.conv(torch.randn(1, 64, 40))
    assert output_BDT.dtype == torch.bfloat16
