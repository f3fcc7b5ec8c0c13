import copy

import pytest
import torch
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMEncoder, WavLMEncoderStableLayerNorm

from pipeline.features.wavlm_attention import attend, position_bias, replace_attention

KINDS = [WavLMEncoder, WavLMEncoderStableLayerNorm]


def make_encoder(kind=WavLMEncoder, layers=3):
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=8,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        layerdrop=0.0,
    )
    encoder = kind(config)
    for layer in encoder.layers:  # as they start, all gates are the same
        torch.nn.init.normal_(layer.attention.gru_rel_pos_const)
    return encoder.eval()


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # transformers' way
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("masked", [True, False])
def test_output_and_gradients_are_those_of_transformers(kind, masked):
    """In float64, with the position bias and its gates in the graph."""
    encoder = make_encoder(kind).double()
    ours = copy.deepcopy(encoder)
    replace_attention(ours)
    hidden_BTD = torch.randn(2, 9, 16, dtype=torch.float64)
    valid_BT = torch.arange(9) < torch.tensor([[9], [5]])
    mask_BT = valid_BT if masked else None
    found = ours(hidden_BTD, mask_BT).last_hidden_state
    expected = encoder(hidden_BTD.clone(), attention_mask=mask_BT).last_hidden_state
    heard = valid_BT if masked else torch.ones_like(valid_BT)
    torch.testing.assert_close(found[heard], expected[heard])
    weights_BTD = torch.randn_like(found) * heard[..., None]
    for output in (found, expected):
        (output * weights_BTD).sum().backward()
    for mine, theirs in zip(ours.parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_a_model_without_blocks_makes_its_input():
    encoder = make_encoder(layers=0)
    expected = encoder(hidden := torch.randn(1, 4, 16)).last_hidden_state
    replace_attention(encoder)
    torch.testing.assert_close(encoder(hidden).last_hidden_state, expected)


def test_the_bias_is_made_once_and_the_mask_takes_no_pass_of_its_own(monkeypatch):
    encoder, calls = make_encoder(), []
    replace_attention(encoder)
    first = encoder.layers[0].attention
    make = first.compute_bias
    monkeypatch.setattr(first, "compute_bias", lambda *sizes: calls.append(sizes) or make(*sizes))
    valid_BT = torch.tensor([[True] * 4, [True] * 2 + [False] * 2])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        encoder(torch.randn(2, 4, 16), valid_BT)
    assert calls == [(4, 4)]
    counts = {event.key: event.count for event in profile.key_averages()}
    assert counts["aten::addcmul"] == 3
    assert counts["aten::masked_fill_"] == 2  # of the frames, and of the mask itself


def test_dropout_of_the_weights_is_training_s_alone():
    attention = make_encoder().layers[0].attention
    hidden_BTD = torch.randn(1, 6, 16)
    bias = position_bias(attention, hidden_BTD)
    attention.dropout = 0.5
    still, weights, _ = attend(attention, hidden_BTD, None, bias)
    assert weights is None
    torch.testing.assert_close(attend(attention, hidden_BTD, None, bias)[0], still)
    dropped = attend(attention.train(), hidden_BTD, None, bias)[0]
    assert not torch.allclose(dropped, still)
