import pytest
import torch
from reference.relative_attention import relative_attention

from pipeline.asr.encoder_layers.relative_attention import RelativeAttention
from pipeline.config import Asr


def make_attention(heads=2):
    torch.manual_seed(0)
    attention = RelativeAttention(Asr(dim=8, heads=heads, dropout=0.0))
    for parameter in attention.parameters():  # the biases of the scores too, which start at zero
        torch.nn.init.normal_(parameter, std=0.6)
    return attention


def by_pairs(attention, frames_TD):
    """The slow oracle with the weights of `attention`."""
    weights_DD = attention.project_in.weight.double().chunk(3)
    biases_D = attention.project_in.bias.double().chunk(3)
    pairs = [(w.tolist(), b.tolist()) for w, b in zip(weights_DD, biases_D, strict=True)]
    found = relative_attention(
        frames_TD.double().tolist(),
        heads=attention.heads,
        query=pairs[0],
        key=pairs[1],
        value=pairs[2],
        distance=attention.project_distances.weight.double().tolist(),
        out=(attention.project_out.weight.tolist(), attention.project_out.bias.tolist()),
        u=attention.content_bias_HD.tolist(),
        v=attention.distance_bias_HD.tolist(),
    )
    return torch.tensor(found, dtype=torch.float64)


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_each_pair_of_frames_has_its_score(heads):
    attention = make_attention(heads)
    lengths = [9, 4, 1]
    frames_BTD = torch.randn(3, 9, 8)
    padding_BT = torch.arange(9) >= torch.tensor(lengths)[:, None]
    found_BTD = attention(frames_BTD, padding_BT).detach()
    for row, length in enumerate(lengths):
        wanted_TD = by_pairs(attention, frames_BTD[row, :length])
        torch.testing.assert_close(
            found_BTD[row, :length].double(), wanted_TD, atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("length", [1, 2, 7])
def test_gradients_are_those_of_a_difference(length):
    attention = make_attention().double()
    padding_BT = torch.zeros(1, length, dtype=torch.bool)
    frames_BTD = torch.randn(1, length, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: attention(x, padding_BT), (frames_BTD,), atol=1e-4)
    attention(frames_BTD, padding_BT).square().sum().backward()
    step = 1e-5
    for parameter in (attention.distance_bias_HD, attention.content_bias_HD):
        changed = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter[1, 2] += sign * step
                changed.append(attention(frames_BTD, padding_BT).square().sum().item())
                parameter[1, 2] -= sign * step
        difference = (changed[0] - changed[1]) / (2 * step)
        assert parameter.grad[1, 2].item() == pytest.approx(difference, abs=1e-4)


def test_a_shift_in_time_changes_nothing_where_the_frames_are_the_same():
    attention = make_attention()
    padding_BT = torch.tensor([[False] * 6 + [True] * 4])
    frames_BTD = torch.randn(1, 10, 8)
    attended_BTD = attention(frames_BTD, padding_BT)
    later_BTD = attention(frames_BTD.roll(3, 1), padding_BT.roll(3, 1))
    torch.testing.assert_close(later_BTD[:, 3:9], attended_BTD[:, :6])


def test_it_runs_under_autocast():
    attention = make_attention()
    frames_BTD, padding_BT = torch.randn(2, 5, 8), torch.zeros(2, 5, dtype=torch.bool)
    wanted_BTD = attention(frames_BTD, padding_BT)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found_BTD = attention(frames_BTD, padding_BT)
    assert found_BTD.dtype == torch.bfloat16
    torch.testing.assert_close(found_BTD.float(), wanted_BTD, atol=0.2, rtol=0.1)
