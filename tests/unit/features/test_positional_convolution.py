import pytest
import torch
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMEncoder

from pipeline.features.positional_convolution import keep_narrow_groups_in_float32


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
