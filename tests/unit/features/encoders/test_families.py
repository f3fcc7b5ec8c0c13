"""data2vec-audio and w2v-BERT 2.0 equal transformers' own on one utterance, and need no more of it."""

import numpy as np
import pytest
import torch
from tiny_encoders import bert, data2vec, save
from torch import nn
from transformers import AutoFeatureExtractor, AutoModel

from pipeline.audio.model_grid import grid_of_model
from pipeline.config import Features, Ssl
from pipeline.features.encoders.load import load_encoder
from pipeline.features.size import bytes_per_frame
from pipeline.features.ssl import pad_waveforms

LAYERS = (0, 1, 2, 3)
FAMILIES = {
    "data2vec": data2vec,
    "bert-relative_key": bert,
    "bert-relative": lambda: bert("relative"),
    "bert-rotary": lambda: bert("rotary"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request, tmp_path_factory):
    return save(FAMILIES[request.param], tmp_path_factory.mktemp("ssl"))


@pytest.fixture(scope="module", params=["data2vec", "bert-relative_key"])
def one_of_each(request, tmp_path_factory):
    return save(FAMILIES[request.param], tmp_path_factory.mktemp("ssl"))


def speech(*seconds):
    """Noise whose level changes, so that frames differ in more than chance."""
    generator = np.random.default_rng(0)
    made = []
    for one in seconds:
        size = round(16000 * one)
        level = 0.05 + 0.2 * np.sin(np.arange(size) / 900) ** 2
        made.append((level * generator.normal(size=size)).astype(np.float32))
    return made


def transformers_own(folder, waveform):
    extractor, model = (
        AutoFeatureExtractor.from_pretrained(folder),
        AutoModel.from_pretrained(folder),
    )
    inputs = extractor(
        waveform, sampling_rate=16000, return_tensors="pt", return_attention_mask=True
    )
    with torch.no_grad():
        encoded = model.eval()(**inputs, output_hidden_states=True)
    return torch.stack([hidden_BTD[0] for hidden_BTD in encoded.hidden_states[: len(LAYERS)]])


@torch.no_grad()
def test_layers_equal_transformers_own_one_by_one(folder):
    model = load_encoder(folder)
    for waveform in speech(1.0, 0.513, 0.035, 2.23):
        hidden_LBTD, num_frames_B = model(*pad_waveforms([waveform]), LAYERS)
        expected_LTD = transformers_own(folder, waveform)[:, : int(num_frames_B)]
        torch.testing.assert_close(hidden_LBTD[:, 0], expected_LTD, atol=1e-4, rtol=0)
        assert num_frames_B.tolist() == [model.grid.num_frames(len(waveform))]


@torch.no_grad()
def test_an_utterance_does_not_depend_on_its_batch_or_on_garbage_behind_it(folder):
    model, (short, long, middle) = load_encoder(folder), speech(0.53, 1.9, 0.9)
    alone = model(*pad_waveforms([short]), LAYERS)
    waveforms_BS, num_samples_B = pad_waveforms([long, short, middle])
    waveforms_BS[1, len(short) :] = 1e3
    waveforms_BS[2, len(middle) :] = -1e3
    together = model(waveforms_BS, num_samples_B, LAYERS)
    length = int(alone.num_frames_B)
    torch.testing.assert_close(
        together.hidden_LBTD[:, 1, :length], alone.hidden_LBTD[:, 0], atol=1e-5, rtol=1e-5
    )
    assert not together.hidden_LBTD[:, 1, length:].any()
    assert (
        together.hidden_LBTD[3] - together.hidden_LBTD[0]
    ).std() > 0.1  # the blocks do something


def test_config_and_model_agree_on_grid_hop_and_size(one_of_each):
    model, ssl = load_encoder(one_of_each), Ssl(model=str(one_of_each))
    assert grid_of_model(ssl.description()) == model.grid
    assert load_encoder(one_of_each, pool=2).grid == model.grid.pooled(2)
    assert (ssl.hop, ssl.num_layers, ssl.hidden_size) == (320, 3, 16)
    assert (model.grid.hop, model.num_layers, model.hidden_size) == (320, 3, 16)


@torch.no_grad()
def test_a_cut_model_gives_the_same_layers_also_when_saved_and_loaded(one_of_each, tmp_path):
    batch = pad_waveforms(speech(0.5, 0.8))
    expected = load_encoder(one_of_each)(*batch, LAYERS).hidden_LBTD
    cut = load_encoder(one_of_each, max_layer=2)
    cut.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert len(cut.blocks()) == cut.num_layers == loaded.num_layers == 2
    for model in (cut, loaded):
        torch.testing.assert_close(model(*batch, (0, 1, 2)).hidden_LBTD, expected[:3])


def test_training_mode_changes_nothing_but_dropout(one_of_each, tmp_path):
    batch, model = pad_waveforms(speech(0.5, 0.8)), load_encoder(one_of_each)
    evaluated = model(*batch, LAYERS).hidden_LBTD
    for _ in range(3):
        torch.testing.assert_close(model.train()(*batch, LAYERS).hidden_LBTD, evaluated)
    made = data2vec if model.backbone.config.model_type == "data2vec-audio" else bert
    dropping = load_encoder(save(made(dropout=0.3), tmp_path / "dropping")).train()
    once, twice = (dropping(*batch, LAYERS).hidden_LBTD for _ in range(2))
    assert not torch.allclose(once, twice)


def test_gradients_reach_every_weight_that_is_trained(one_of_each):
    model = load_encoder(one_of_each, max_layer=2).train()
    model(*pad_waveforms(speech(0.5, 0.8)), (2,)).hidden_LBTD.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen <= {"masked_spec_embed", "adapter", "intermediate_ffn"}


def test_a_frozen_front_end_takes_no_gradient_and_the_blocks_do(one_of_each):
    model = load_encoder(one_of_each).train()
    model.freeze_front_end()
    model(*pad_waveforms(speech(0.5)), (3,)).hidden_LBTD.square().sum().backward()
    front_end = getattr(model.backbone, "feature_extractor", None)
    assert front_end is None or all(p.grad is None for p in front_end.parameters())
    assert all(p.grad is not None for block in model.blocks() for p in block.parameters())


def test_blocks_computed_again_leave_the_gradients_what_they_were(one_of_each):
    found = []
    for checkpointed in (False, True):
        model = load_encoder(one_of_each).train()
        if checkpointed:
            model.checkpoint_gradients()
        runs = []
        inside = next(m for m in model.blocks()[1].modules() if isinstance(m, nn.Linear))
        inside.register_forward_pre_hook(lambda *_, runs=runs: runs.append(1))
        torch.manual_seed(0)
        model(*pad_waveforms(speech(0.5, 0.3)), LAYERS).hidden_LBTD.square().sum().backward()
        assert len(runs) == 1 + checkpointed
        found.append([p.grad for p in model.parameters() if p.grad is not None])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(plain, again)


def test_a_frame_of_a_model_needs_its_float16_values(one_of_each):
    assert bytes_per_frame(Features(layers=(0, 3)), Ssl(model=str(one_of_each))) == 2 * 16 * 2
