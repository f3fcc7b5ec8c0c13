import torch
from reference.gated_branch import gating_mlp, merged

from pipeline.asr.encoder_layers.e_branchformer import EBranchformerLayer
from pipeline.config import Asr


def make_layer(**changes):
    torch.manual_seed(0)
    settings = Asr(
        **{
            "dim": 8,
            "heads": 2,
            "feedforward_dim": 12,
            "conv_kernel": 5,
            "dropout": 0.0,
            "e_branchformer": {"cgmlp_dim": 12, "merge_kernel": 3},
            **changes,
        }
    )
    return EBranchformerLayer(settings)


def pair(module):
    """Weight and bias as lists; a depthwise kernel without its middle axis."""
    weight = module.weight.double()
    return (weight[:, 0] if weight.dim() == 3 else weight).tolist(), module.bias.tolist()


def test_the_branches_by_formula_up_to_each_end():
    layer = make_layer()
    for convolution in (layer.gating.convolution, layer.merge_convolution):
        torch.nn.init.normal_(convolution.weight)
    lengths = [9, 3, 1]
    frames_BTD = torch.randn(3, 9, 8) * 3
    padding_BT = torch.arange(9) >= torch.tensor(lengths)[:, None]
    found_BTD = layer._branches(frames_BTD, padding_BT).detach()
    attended_BTD = layer.attention(layer.attention_norm(frames_BTD), padding_BT).double()
    for row, length in enumerate(lengths):
        gated = gating_mlp(
            layer.gating_norm(frames_BTD[row, :length]).double().tolist(),
            expand=pair(layer.gating.expand),
            norm=pair(layer.gating.gate_norm),
            convolution=pair(layer.gating.convolution),
            contract=pair(layer.gating.contract),
        )
        wanted = merged(
            attended_BTD[row, :length].tolist(),
            gated,
            convolution=pair(layer.merge_convolution),
            project=pair(layer.merge_project),
        )
        wanted_TD = torch.tensor(wanted, dtype=torch.float64)
        torch.testing.assert_close(
            found_BTD[row, :length].double(), wanted_TD, atol=1e-5, rtol=1e-5
        )


def test_the_whole_layer_is_feedforwards_of_half_weight_around_the_branches():
    layer = make_layer()
    frames_BTD, padding_BT = torch.randn(1, 6, 8), torch.zeros(1, 6, dtype=torch.bool)
    first_BTD = frames_BTD + 0.5 * layer.feedforward_before(frames_BTD)
    second_BTD = first_BTD + layer._branches(first_BTD, padding_BT)
    wanted_BTD = layer.norm(second_BTD + 0.5 * layer.feedforward_after(second_BTD))
    torch.testing.assert_close(layer(frames_BTD, padding_BT), wanted_BTD)
    assert layer.feedforward_before is not layer.feedforward_after


def test_the_gate_starts_at_one():
    gating = make_layer().gating
    frames_BTD, padding_BT = torch.randn(1, 6, 8), torch.zeros(1, 6, dtype=torch.bool)
    content_BTC, _ = torch.nn.functional.gelu(gating.expand(frames_BTD)).chunk(2, dim=-1)
    torch.testing.assert_close(
        gating(frames_BTD, padding_BT), gating.contract(content_BTC), atol=1e-4, rtol=0
    )


def test_every_parameter_learns_in_both_ways_to_know_positions():
    for positions in ("relative", "sinusoidal"):
        layer = make_layer(positions=positions)
        padding_BT = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
        # A sum of normed channels is constant: a square is not.
        layer(torch.randn(2, 6, 8), padding_BT).square().mul(torch.arange(8)).sum().backward()
        still = [name for name, p in layer.named_parameters() if not p.grad.any()]
        assert still == []
