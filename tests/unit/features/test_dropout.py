import pytest
import transformers
from support import save_tiny_whisper
from torch import nn
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2FeatureExtractor

from pipeline.features.dropout import set_dropout
from pipeline.features.encoders.load import load_encoder

# What a config may name and no part of the model that is used here has.
ELSEWHERE = {"final_dropout", "feat_quantizer_dropout"}
CONFIGS = ("WavLM", "Hubert", "Wav2Vec2", "Data2VecAudio", "Wav2Vec2Bert", "Whisper")
CONVOLUTIONS = {
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def save_tiny(family, folder, dropout):
    if family == "Whisper":
        names = ("dropout", "attention_dropout", "activation_dropout")
        save_tiny_whisper(folder, **dict.fromkeys(names, dropout))
        return
    names = ["hidden_dropout", "attention_dropout", "activation_dropout", "feat_proj_dropout"]
    extractor, sizes = Wav2Vec2FeatureExtractor(), CONVOLUTIONS
    if family == "Wav2Vec2Bert":
        names.append("conformer_conv_dropout")
        extractor, sizes = SeamlessM4TFeatureExtractor(), {}
    settings = getattr(transformers, f"{family}Config")(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        **sizes,
        **dict.fromkeys(names, dropout),
    )
    getattr(transformers, f"{family}Model")(settings).save_pretrained(folder)
    extractor.save_pretrained(folder)


def probabilities(model):
    """Those of all dropout layers, and of the functions that blocks call with numbers."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            yield module.p
        for name in ("dropout", "activation_dropout"):
            if isinstance(getattr(module, name, None), float):
                yield getattr(module, name)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_models_dropout_is_what_training_asks_for_or_its_own(family, tmp_path):
    save_tiny(family, tmp_path, 0.125)
    own = list(probabilities(load_encoder(tmp_path)))
    assert len(own) >= 7
    assert set(own) == {0.125}
    asked = list(probabilities(load_encoder(tmp_path, dropout=0.25)))
    assert len(asked) == len(own)
    assert set(asked) == {0.25}
    assert set(probabilities(load_encoder(tmp_path, dropout=0.0))) == {0.0}


@pytest.mark.parametrize("family", CONFIGS)
def test_every_dropout_of_every_familys_config_is_set(family):
    settings = getattr(transformers, f"{family}Config")()
    before = settings.to_dict()
    set_dropout(settings, 0.375)
    changed = {name for name, value in settings.to_dict().items() if value != before[name]}
    assert changed == {name for name in before if name.endswith("dropout")} - ELSEWHERE
