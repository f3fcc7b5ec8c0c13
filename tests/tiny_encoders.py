"""Tiny models of further families, whose layers do something, as transformers saves them."""

import torch
from torch import nn
from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertConfig,
    Wav2Vec2BertModel,
    Wav2Vec2FeatureExtractor,
)

SHARED = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "layerdrop": 0.5,
    "mask_time_prob": 0.5,
    "mask_time_length": 2,
}


def data2vec(dropout=0.0):
    config = Data2VecAudioConfig(
        **SHARED,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=3,
        num_conv_pos_embedding_groups=2,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
    )
    return Data2VecAudioModel(config), Wav2Vec2FeatureExtractor(do_normalize=True)


def bert(positions="relative_key", dropout=0.0):
    config = Wav2Vec2BertConfig(
        **SHARED,
        position_embeddings_type=positions,
        add_adapter=True,
        use_intermediate_ffn_before_adapter=True,
        hidden_dropout=dropout,
        conformer_conv_dropout=dropout,
        left_max_position_embeddings=20,
    )
    return Wav2Vec2BertModel(config), SeamlessM4TFeatureExtractor()


def save(made, folder):
    torch.manual_seed(0)
    model, extractor = made() if callable(made) else made
    # The default initialisation is so small, or so plain, that it would hide what a layer does.
    for module in model.modules():
        if isinstance(module, nn.LayerNorm) and module.elementwise_affine:
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
        if isinstance(module, nn.Conv1d) and module.bias is not None:
            nn.init.uniform_(module.bias, -1.0, 1.0)
    for name, parameter in model.named_parameters():
        if "pos_bias" in name:
            nn.init.uniform_(parameter, -1.0, 1.0)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder
