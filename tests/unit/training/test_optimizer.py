"""Groups of parameters: their rates, from the front end of the SSL model to its last block."""

import pytest
from support import SMALL_ASR, save_tiny_whisper
from torch import nn
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel

from pipeline.asr.model import AsrModel
from pipeline.asr.text_pieces import Characters
from pipeline.config import Asr, Phase
from pipeline.features.encoders.convolutional import ConvolutionalEncoder
from pipeline.features.encoders.load import load_encoder
from pipeline.quantizer.layer_mix import LayerMix
from pipeline.training.joint_model import JointModel
from pipeline.training.optimizer import make_optimizer, ssl_rate_shares

BLOCKS = "ssl.backbone.encoder.layers."


def joint_model(*, stable=False, max_layer=None):
    settings = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=3,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer" if stable else "group",
        do_stable_layer_norm=stable,
    )
    ssl = ConvolutionalEncoder(WavLMModel(settings), Wav2Vec2FeatureExtractor(), max_layer)
    asr = AsrModel(Asr(**SMALL_ASR), None, 16, Characters("ab"))
    return JointModel(ssl, (0, 2), LayerMix(2, 1, 0.8, learned=True), None, asr)


def peak_rates(model, **phase):
    """The rate and the weight decay of each parameter that is trained, by its name."""
    phase = Phase(epochs=1, ssl="finetuned", **phase)
    groups = make_optimizer(model, phase, weight_decay=0.25).param_groups
    of_parameters = {
        parameter: (group["peak_rate"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert len(of_parameters) == sum(len(group["params"]) for group in groups)
    names = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert set(of_parameters) == set(names.values())
    return {name: of_parameters[parameter] for name, parameter in names.items()}


def expected_share(name, num_blocks, decay, *, stable):
    if name.startswith(BLOCKS):
        return decay ** (num_blocks - 1 - int(name.removeprefix(BLOCKS).split(".")[0]))
    if stable and num_blocks == 3 and name.startswith("ssl.backbone.encoder.layer_norm."):
        return 1.0
    return decay**num_blocks


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("max_layer", [None, 2])
def test_the_ssl_models_rate_falls_from_its_last_block_to_its_front_end(stable, max_layer):
    model = joint_model(stable=stable, max_layer=max_layer)
    rates = peak_rates(
        model, learning_rates={"ssl": 0.01, "asr": 0.5, "layer_weights": 0.1}, ssl_layer_decay=0.5
    )
    of_ssl = {name: rates.pop(name) for name in list(rates) if name.startswith("ssl.")}
    assert len({rate for rate, _ in of_ssl.values()}) == (max_layer or 3) + 1
    for name, (rate, weight_decay) in of_ssl.items():
        share = expected_share(name, max_layer or 3, 0.5, stable=stable)
        assert rate == pytest.approx(0.01 * share), name
        assert weight_decay == 0.25
    assert of_ssl[f"{BLOCKS}0.attention.rel_attn_embed.weight"][0] < 0.01
    assert {rate for name, rate in rates.items() if name.startswith("asr.")} == {(0.5, 0.25)}
    assert {rate for name, rate in rates.items() if name.startswith("mix.")} == {(0.1, 0.0)}


def test_whisper_learns_slowest_in_its_front_end_and_fastest_in_its_last_norm(tmp_path):
    save_tiny_whisper(tmp_path)
    whole, cut = load_encoder(tmp_path), load_encoder(tmp_path, max_layer=1)
    for ssl, expected in ((whole, (0.25, 0.5, 1.0)), (cut, (0.5, 1.0, None))):
        shares = ssl_rate_shares(ssl, 0.5)
        encoder = ssl.backbone.encoder
        assert shares[encoder.conv1.weight] == expected[0]
        assert shares[encoder.layers[0].fc1.weight] == expected[1]
        norm = encoder.layer_norm.weight
        assert (shares[norm] if norm.requires_grad else None) == expected[2]
    assert ssl_rate_shares(whole, 0.5)[whole.blocks()[1].fc1.weight] == 1.0


def test_without_decay_the_ssl_model_is_one_group():
    model = joint_model()
    rates = peak_rates(model, learning_rates={"ssl": 0.01})
    assert {rate for name, rate in rates.items() if name.startswith("ssl.")} == {(0.01, 0.25)}
    groups = make_optimizer(model, Phase(epochs=1), 0.0).param_groups
    assert len(groups) == 3


def test_what_is_frozen_is_in_no_group():
    model = joint_model()
    model.ssl.freeze_front_end()
    names = peak_rates(model, ssl_layer_decay=0.9)
    assert not [name for name in names if name.startswith("ssl.backbone.feature_extractor")]
    assert isinstance(model.ssl.blocks()[0], nn.Module)
