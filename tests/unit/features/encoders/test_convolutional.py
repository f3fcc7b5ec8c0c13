import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMModel,
)

from pipeline.audio.frame_grid import FrameGrid
from pipeline.features.encoders.convolutional import (
    ConvolutionalEncoder,
    masked_channel_norm,
    normalise,
)
from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import pad_waveforms

FAMILIES = {
    "wavlm": (WavLMConfig, WavLMModel),
    "hubert": (HubertConfig, HubertModel),
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2Model),
}
SHAPES = [
    (family, norm, stable)
    for family in FAMILIES
    for norm in ("group", "layer")
    for stable in (False, True)
]
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


def backbone(family="wavlm", norm="group", *, stable=False, dropout=0.0, layers=3):
    torch.manual_seed(1)
    config_class, model_class = FAMILIES[family]
    config = config_class(
        hidden_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=stable,
        hidden_dropout=dropout,
        attention_dropout=dropout,
        activation_dropout=dropout,
        feat_proj_dropout=dropout,
        layerdrop=0.5,
        mask_time_prob=0.5,
        mask_time_length=2,
    )
    model = model_class(config).eval()
    # The default initialisation leaves norms at the identity, which would hide a wrong one.
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -1.0, 1.0)
    return model


def extractor(*, do_normalize=False):
    return Wav2Vec2FeatureExtractor(do_normalize=do_normalize)


def speech(seconds, seed=0):
    generator = np.random.default_rng(seed)
    return (0.1 + 0.3 * generator.standard_normal(int(seconds * 16000))).astype(np.float32)


@pytest.mark.parametrize(("family", "norm", "stable"), SHAPES)
def test_layers_equal_the_model_alone_and_do_not_depend_on_the_batch(family, norm, stable):
    waveforms = [speech(0.1, 1), speech(1.3, 2), speech(30.0, 3)]
    reference = backbone(family, norm, stable=stable)
    expected = []
    with torch.no_grad():
        for waveform in waveforms:
            alone = reference(torch.from_numpy(waveform)[None], output_hidden_states=True)
            expected.append([*alone.hidden_states[:3], alone.last_hidden_state])
        model = ConvolutionalEncoder(backbone(family, norm, stable=stable), extractor()).eval()
        rising = model(*pad_waveforms(waveforms), layers=(0, 1, 2, 3))
        falling = model(*pad_waveforms(waveforms[::-1]), layers=(0, 1, 2, 3))
    assert rising.num_frames_B.tolist() == falling.num_frames_B.tolist()[::-1] == [4, 64, 1499]
    for hidden_LBTD in (rising.hidden_LBTD, falling.hidden_LBTD.flip(1)):
        for row, num_frames in enumerate(rising.num_frames_B.tolist()):
            for layer in range(4):
                torch.testing.assert_close(
                    hidden_LBTD[layer, row, :num_frames], expected[row][layer][0], atol=1e-4, rtol=0
                )
            assert hidden_LBTD[:, row, num_frames:].abs().sum() == 0


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_cut_model_gives_the_same_layers_also_when_saved_and_loaded(family, stable, tmp_path):
    batch = pad_waveforms([speech(0.5)])
    whole = ConvolutionalEncoder(backbone(family, stable=stable), extractor()).eval()
    cut = ConvolutionalEncoder(backbone(family, stable=stable), extractor(), max_layer=2).eval()
    cut.save_pretrained(tmp_path)
    loaded = load_encoder(tmp_path)
    assert len(cut.backbone.encoder.layers) == cut.num_layers == loaded.num_layers == 2
    with torch.no_grad():
        expected = whole(*batch, layers=(0, 1, 2)).hidden_LBTD
        torch.testing.assert_close(cut(*batch, layers=(0, 1, 2)).hidden_LBTD, expected)
        torch.testing.assert_close(loaded(*batch, layers=(0, 1, 2)).hidden_LBTD, expected)
        only_input = ConvolutionalEncoder(
            backbone(family, stable=stable), extractor(), max_layer=0
        ).eval()
        torch.testing.assert_close(only_input(*batch, layers=(0,)).hidden_LBTD, expected[:1])


@pytest.mark.parametrize("stable", [False, True])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_training_mode_changes_nothing_but_dropout(family, stable):
    model = ConvolutionalEncoder(backbone(family, stable=stable), extractor())
    batch = pad_waveforms([speech(0.4, 1), speech(0.9, 2)])
    evaluated = model.eval()(*batch, layers=(0, 3)).hidden_LBTD
    for _ in range(3):
        torch.testing.assert_close(model.train()(*batch, layers=(0, 3)).hidden_LBTD, evaluated)
    dropping = ConvolutionalEncoder(
        backbone(family, stable=stable, dropout=0.3), extractor()
    ).train()
    assert not torch.allclose(dropping(*batch, layers=(0, 3)).hidden_LBTD, evaluated)


def test_gradients_do_not_depend_on_the_padding():
    alone, padded = (ConvolutionalEncoder(backbone(), extractor()) for _ in range(2))
    short, long = speech(0.4, 1), speech(1.0, 2)
    for model, waveforms in ((alone, [short]), (padded, [short, long])):
        hidden_LBTD, num_frames_B = model(*pad_waveforms(waveforms), layers=(3,))
        hidden_LBTD[0, 0, : num_frames_B[0]].square().sum().backward()
    for (name, left), right in zip(alone.named_parameters(), padded.parameters(), strict=True):
        if left.requires_grad:
            assert left.grad is not None, name
            torch.testing.assert_close(left.grad, right.grad, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("max_layer", [1, 3])
@pytest.mark.parametrize("stable", [False, True])
def test_every_trainable_parameter_gets_a_gradient(stable, max_layer):
    model = ConvolutionalEncoder(backbone(stable=stable), extractor(), max_layer=max_layer).train()
    model(*pad_waveforms([speech(0.4)]), layers=(max_layer,)).hidden_LBTD.square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_frozen_front_end_takes_no_gradient_and_the_rest_does():
    model = ConvolutionalEncoder(backbone(), extractor()).train()
    model.freeze_front_end()
    model(*pad_waveforms([speech(0.4)]), layers=(3,)).hidden_LBTD.square().sum().backward()
    assert all(p.grad is None for p in model.backbone.feature_extractor.parameters())
    assert model.backbone.feature_projection.projection.weight.grad is not None


def remembering(norm="group", max_bytes=10**6):
    """A frozen model that remembers, and the rows for which its front end has run."""
    model = ConvolutionalEncoder(backbone(norm=norm), extractor(do_normalize=True)).eval()
    model.freeze_front_end()
    seen, front_end = [], model._front_end
    model._front_end = lambda rows, lengths: (
        seen.append(tuple(rows.shape)) or front_end(rows, lengths)
    )
    model.remember_front_end(max_bytes)
    return model, seen


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_a_remembered_front_end_runs_once_for_each_utterance_and_rounds_otherwise(norm):
    model, seen = remembering(norm)
    batch = pad_waveforms([speech(0.4, 1), speech(0.7, 2), speech(0.4, 3)])
    plain = ConvolutionalEncoder(backbone(norm=norm), extractor(do_normalize=True)).eval()
    with torch.no_grad():
        first, again, expected = (m(*batch, layers=(0, 3)) for m in (model, model, plain))
    assert seen == [(1, 6400), (1, 11200), (1, 6400)]
    assert torch.equal(first.hidden_LBTD, again.hidden_LBTD)
    assert torch.equal(first.num_frames_B, expected.num_frames_B)
    torch.testing.assert_close(first.hidden_LBTD, expected.hidden_LBTD, atol=1e-4, rtol=1e-4)


def test_what_is_remembered_is_the_same_from_any_batch_and_whatever_had_room():
    waveforms = [speech(0.4, 1), speech(0.7, 2)]
    found = []
    for max_bytes in (0, 20_000, 10**6):
        model, seen = remembering(max_bytes=max_bytes)
        with torch.no_grad():
            model(*pad_waveforms(waveforms[::-1]), layers=(3,))
            found.append(model(*pad_waveforms(waveforms[:1]), layers=(3,)).hidden_LBTD)
        assert len(seen) == (3 if max_bytes == 0 else 2)
    assert all(torch.equal(each, found[0]) for each in found)


def test_gradients_pass_above_a_remembered_front_end():
    model, _ = remembering()
    model.train()
    model(*pad_waveforms([speech(0.4)]), layers=(3,)).hidden_LBTD.square().sum().backward()
    assert model.backbone.feature_projection.projection.weight.grad is not None
    assert all(p.grad is None for p in model.backbone.feature_extractor.parameters())


def test_input_normalisation_follows_the_feature_extractor():
    waveforms = [speech(0.3, 1), speech(0.7, 2)]
    waveforms_BS, num_samples_B = pad_waveforms(waveforms)
    normalised_BS = normalise(waveforms_BS, num_samples_B)
    for row, waveform in enumerate(waveforms):
        expected = extractor(do_normalize=True)(waveform, sampling_rate=16000).input_values[0]
        np.testing.assert_allclose(normalised_BS[row, : len(waveform)], expected, atol=1e-5)
        assert normalised_BS[row, len(waveform) :].abs().sum() == 0
    model = ConvolutionalEncoder(backbone(norm="layer"), extractor(do_normalize=True)).eval()
    with torch.no_grad():
        quiet = model(waveforms_BS * 0.01, num_samples_B, layers=(3,)).hidden_LBTD
        loud = model(waveforms_BS, num_samples_B, layers=(3,)).hidden_LBTD
    torch.testing.assert_close(quiet, loud, atol=1e-3, rtol=0)


def test_masked_channel_norm_against_group_norm_in_float64():
    norm = nn.GroupNorm(4, 4).double()
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    hidden_BCT = torch.randn(2, 4, 30, generator=torch.Generator().manual_seed(0))
    normed_BCT = masked_channel_norm(hidden_BCT, torch.tensor([30, 11]), norm.float())
    norm.double()
    for row, length in enumerate((30, 11)):
        expected = norm(hidden_BCT[row : row + 1, :, :length].double())[0]
        torch.testing.assert_close(
            normed_BCT[row, :, :length].double(), expected, atol=1e-5, rtol=0
        )


def test_frame_arithmetic_from_one_to_five_seconds():
    # From 1 s to 5 s, one sample before, at and behind every number of samples where the convs
    # give one frame more; the front end's own output decides.
    grid = FrameGrid.of_convolutions(KERNELS, STRIDES, 16000)
    layers = [nn.Conv1d(1, 1, k, s) for k, s in zip(KERNELS, STRIDES, strict=True)]
    front_end = nn.Sequential(*layers)
    assert (grid.receptive_field, grid.hop) == (400, 320)
    for boundary in range(16000 + (400 - 16000) % 320, 80001, 320):
        for num_samples in (boundary - 1, boundary, boundary + 1):
            with torch.device("meta"):
                samples = torch.empty(1, 1, num_samples)
            frames = front_end.to("meta")(samples).shape[2]
            assert grid.num_frames(num_samples) == frames
        assert grid.num_frames(boundary) == grid.num_frames(boundary - 1) + 1


def test_mask_embedding_replaces_frames_and_is_felt_by_their_neighbours():
    model = ConvolutionalEncoder(backbone(), extractor()).eval()
    batch = pad_waveforms([speech(0.5)])
    masked_BT = torch.zeros(1, 24, dtype=torch.bool)
    with torch.no_grad():
        plain = model(*batch, layers=(3,)).hidden_LBTD
        unmasked = model(*batch, layers=(3,), masked_BT=masked_BT).hidden_LBTD
        masked_BT[0, 5:15] = True
        masked = model(*batch, layers=(3,), masked_BT=masked_BT).hidden_LBTD
    torch.testing.assert_close(unmasked, plain)
    assert not torch.allclose(masked, plain)


def test_mistakes_are_named():
    model = ConvolutionalEncoder(backbone(), extractor())
    with pytest.raises(ValueError, match=r"layers \[4\].*0 to 3"):
        model(*pad_waveforms([speech(0.5)]), layers=(4,))
    with pytest.raises(ValueError, match="160 samples is shorter than one frame"):
        model(*pad_waveforms([speech(0.01), speech(0.5)]), layers=(0,))
    with pytest.raises(ValueError, match="layer 9 was requested"):
        ConvolutionalEncoder(backbone(), extractor(), max_layer=9)
