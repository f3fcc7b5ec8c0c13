import copy

import pytest
import torch
from transformers import WavLMConfig
from transformers.models.wavlm.modeling_wavlm import WavLMEncoderLayer

from pipeline.features.wavlm_attention import replace_attention


@pytest.fixture
def block():
    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=16, num_attention_heads=2, intermediate_size=8, attention_dropout=0.0
    )
    return WavLMEncoderLayer(config).eval()


@pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask")  # transformers' way
@pytest.mark.parametrize("masked", [True, False])
def test_output_and_gradients_are_those_of_transformers(block, masked):
    """In float64, with the position bias and its gate in the graph."""
    block = block.double()
    ours = copy.deepcopy(block)
    replace_attention(ours)
    hidden_BTD = torch.randn(2, 9, 16, dtype=torch.float64)
    valid_BT = torch.arange(9) < torch.tensor([[9], [5]]) if masked else None
    found, _ = ours(hidden_BTD, valid_BT)
    expected, _ = block(hidden_BTD, valid_BT)
    torch.testing.assert_close(found, expected)
    weights_BTD = torch.randn_like(found)
    for output in (found, expected):
        (output * weights_BTD).sum().backward()
    for mine, theirs in zip(ours.parameters(), block.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_attention_is_replaced_and_gives_no_weights(block):
    hidden_BTD = torch.randn(1, 4, 16)
    assert block.attention(hidden_BTD)[1] is not None
    replace_attention(block)
    assert block.attention(hidden_BTD)[1] is None


def test_dropout_of_the_weights_is_training_s_alone(block):
    replace_attention(block)
    hidden_BTD = torch.randn(1, 6, 16)
    block.attention.dropout = 0.5
    still = block.attention(hidden_BTD)[0]
    torch.testing.assert_close(block.attention(hidden_BTD)[0], still)
    dropped = block.attention.train()(hidden_BTD)[0]
    assert not torch.allclose(dropped, still)
