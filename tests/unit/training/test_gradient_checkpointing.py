"""Blocks computed again in the backward pass leave every gradient what it was."""

import pytest
import torch
from support import SAMPLE_RATE_HZ
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.windows import Windowing, hidden_states_in_windows

FAMILIES = {
    "wavlm": (WavLMConfig, WavLMModel),
    "hubert": (HubertConfig, HubertModel),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
}


def ssl_model(family, *, stable, dropout=0.1):
    torch.manual_seed(0)
    config_class, model_class = FAMILIES[family]
    config = config_class(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer" if stable else "group",
        do_stable_layer_norm=stable,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        feat_proj_dropout=dropout,
        layerdrop=0.5,
        mask_time_prob=0.5,
        mask_time_length=2,
    )
    return ConvolutionalEncoder(model_class(config), Wav2Vec2FeatureExtractor(do_normalize=False))


def speech(*seconds):
    torch.manual_seed(1)
    lengths = torch.tensor([int(each * SAMPLE_RATE_HZ) for each in seconds])
    return 0.1 * torch.randn(len(seconds), int(lengths.max())), lengths


def gradients(ssl, waveforms_BS, lengths_B):
    """Of a sum over all layers, the longest utterance in windows; and how often each block ran."""
    runs = [0] * ssl.num_layers

    def count(block):
        runs[block] += 1

    # Before it runs: torch ends the second run where it has all it needs.
    handles = [
        block.feed_forward.register_forward_pre_hook(lambda *_, number=number: count(number))
        for number, block in enumerate(ssl.blocks())
    ]
    ssl.train().zero_grad()
    torch.manual_seed(2)
    hidden = hidden_states_in_windows(
        ssl, waveforms_BS, lengths_B, (0, 1, 2, 3), Windowing(1.0, 0.2)
    ).hidden_LBTD
    (hidden * torch.linspace(-1, 1, hidden.numel()).view(hidden.shape)).sum().backward()
    for handle in handles:
        handle.remove()
    found = {name: p.grad for name, p in ssl.named_parameters() if p.grad is not None}
    return {name: gradient.clone() for name, gradient in found.items()}, runs


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stable", [False, True])
def test_gradients_stay_the_same_with_dropout_and_windows(family, stable):
    ssl = ssl_model(family, stable=stable)
    ssl.freeze_front_end()
    batch = speech(0.5, 2.3)
    expected, runs = gradients(ssl, *batch)
    assert runs == [1, 1, 1]
    assert len(expected) > 20
    for num_blocks, expected_runs in ((None, [2, 2, 2]), (2, [2, 2, 1])):
        ssl.checkpoint_gradients(num_blocks)
        found, runs = gradients(ssl, *batch)
        assert runs == expected_runs
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-6, atol=1e-7)
