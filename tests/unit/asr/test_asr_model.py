import math

import numpy as np
import pytest
import torch
from reference.ctc import negative_log_likelihood

from pipeline import config
from pipeline.asr.model import AsrModel
from pipeline.asr.subsampling import fits
from pipeline.asr.text_pieces import TextPieceError, TextPieces

UNITS = TextPieces.train(config.TextPieces(), ["abc de"])
LENGTHS = torch.tensor([24, 15])
TARGETS = [UNITS.encode("abba ce"), UNITS.encode("dad")]


def make_model(*, num_units=10, input_dim=None, **changes):
    torch.manual_seed(0)
    settings = config.Asr(
        **{
            "embedding_dim": 12,
            "dim": 16,
            "heads": 2,
            "feedforward_dim": 24,
            "conv_kernel": 5,
            **changes,
        }
    )
    return AsrModel(settings, num_units, input_dim, UNITS).eval()


def some_units():
    return torch.randint(10, (2, 24), generator=torch.Generator().manual_seed(1))


def smoothed_cross_entropy(logits, wanted, smoothing):
    """Cross entropy with a target that gives `smoothing` evenly to all classes, in float64."""
    total = 0.0
    for row, unit in zip(np.asarray(logits, dtype=np.float64), wanted, strict=True):
        log_probs = row - math.log(np.exp(row - row.max()).sum()) - row.max()
        target = np.full(len(row), smoothing / len(row))
        target[unit] += 1 - smoothing
        total -= float(target @ log_probs)
    return total


def test_losses_against_float64_oracles():
    model = make_model()
    embedded = model.embed(some_units())
    losses = model.losses(embedded, LENGTHS, TARGETS)
    encoded, lengths = model.encode(embedded, LENGTHS)
    log_probs = model.ctc_log_probs(encoded).detach().double()
    ctc, attention = 0.0, 0.0
    for row, target in enumerate(TARGETS):
        length = int(lengths[row])
        ctc += negative_log_likelihood(log_probs[row, :length], target)
        logits = model.decoder(
            torch.tensor([[1, *target]]),
            encoded[row : row + 1, :length],
            torch.zeros(1, length, dtype=torch.bool),
        )
        attention += smoothed_cross_entropy(logits[0].detach(), [*target, 1], 0.1)
    assert losses["ctc"].item() == pytest.approx(ctc, rel=1e-5)
    assert losses["attention"].item() == pytest.approx(attention, rel=1e-5)


def test_sums_do_not_depend_on_the_batch_in_training_either():
    model = make_model(dropout=0.0, time_masking={"masks": 0}).train()
    embedded = model.embed(some_units())
    together = model.losses(embedded, LENGTHS, TARGETS)
    alone = [
        model.losses(embedded[row : row + 1, : LENGTHS[row]], LENGTHS[row : row + 1], [target])
        for row, target in enumerate(TARGETS)
    ]
    for part in ("ctc", "attention"):
        total = sum(losses[part].item() for losses in alone)
        assert together[part].item() == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("part", ["ctc", "attention"])
@pytest.mark.parametrize(("num_units", "input_dim"), [(10, None), (None, 6)])
def test_each_loss_reaches_what_embeds(part, num_units, input_dim):
    model = make_model(num_units=num_units, input_dim=input_dim).train()
    if num_units is None:
        inputs, weight = torch.randn(2, 24, 6, requires_grad=True), model.projection.weight
    else:
        inputs, weight = some_units(), model.unit_embedding.weight
    model.losses(model.embed(inputs), LENGTHS, TARGETS)[part].backward()
    assert weight.grad.abs().sum(-1).gt(0).all()
    if num_units is None:
        assert inputs.grad[0].abs().sum() > 0


def test_every_parameter_learns():
    model = make_model().train()
    losses = model.losses(model.embed(some_units()), LENGTHS, TARGETS)
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("subsampling", [1, 2, 4])
def test_fits_is_where_the_ctc_loss_becomes_finite(subsampling):
    model = make_model(subsampling=subsampling)
    target = UNITS.encode("abba")
    for num_frames in range(1, 26):
        encoded, lengths = model.encode(torch.randn(1, num_frames, 12), torch.tensor([num_frames]))
        log_probs = model.ctc_log_probs(encoded)[0].detach()
        assert len(log_probs) == lengths[0]
        loss = negative_log_likelihood(log_probs, target)
        assert fits(num_frames, target, subsampling) == math.isfinite(loss)
    assert fits(1, [], subsampling)
    assert not fits(0, [], subsampling)


def test_what_does_not_fit_adds_neither_loss_nor_gradient():
    model = make_model()
    embedded = torch.randn(1, 4, 12, requires_grad=True)
    loss = model.losses(embedded, torch.tensor([4]), [UNITS.encode("abcde")])["ctc"]
    loss.backward()
    assert loss.item() == 0.0
    assert not embedded.grad.any()


def test_ctc_is_float32_under_autocast():
    model = make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded, _ = model.encode(model.embed(some_units()), LENGTHS)
        losses = model.losses(model.embed(some_units()), LENGTHS, TARGETS)
        log_probs = model.ctc_log_probs(encoded)
    assert log_probs.dtype == torch.float32
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 12), atol=1e-5, rtol=0)
    assert {losses[part].dtype for part in ("ctc", "attention")} == {torch.float32}


@pytest.mark.parametrize(("num_units", "input_dim"), [(10, None), (None, 6)])
def test_a_saved_model_computes_the_same(num_units, input_dim, tmp_path):
    model = make_model(num_units=num_units, input_dim=input_dim, subsampling=4)
    model.save_pretrained(tmp_path / "asr")
    loaded = AsrModel.from_pretrained(tmp_path / "asr")
    inputs = some_units() if num_units else torch.randn(2, 24, 6)
    for wanted, found in zip(
        model.encode(model.embed(inputs), LENGTHS),
        loaded.encode(loaded.embed(inputs), LENGTHS),
        strict=True,
    ):
        assert torch.equal(wanted, found)
    assert not loaded.training
    assert loaded.settings == model.settings
    assert loaded.text_pieces.encode("bad") == UNITS.encode("bad")
    names = sorted(path.name for path in (tmp_path / "asr").iterdir())
    assert names == ["config.json", "model.safetensors", "text_units.json"]


@pytest.mark.parametrize(("num_units", "input_dim"), [(None, None), (10, 6)])
def test_units_or_features_but_not_both(num_units, input_dim):
    with pytest.raises(ValueError, match="units or features"):
        make_model(num_units=num_units, input_dim=input_dim)


def test_text_outside_the_alphabet_is_rejected():
    with pytest.raises(TextPieceError, match="'z'"):
        make_model().text_pieces.encode("zebra")


def test_a_mixture_is_embedded_as_the_weighted_mean_of_its_units():
    model, units = make_model(), some_units()
    pure = torch.nn.functional.one_hot(units, 10).float()
    torch.testing.assert_close(model.embed(pure), model.embed(units))
    halves = (pure + pure.roll(1, 1)) / 2
    mean = (model.embed(units) + model.embed(units.roll(1, 1))) / 2
    torch.testing.assert_close(model.embed(halves), mean)
    # Of several lengths, as whole utterances come.
    rows = [units[0].numpy(), units[1, :15].numpy()]
    mixtures = [pure[0].numpy(), pure[1, :15].numpy()]
    assert model.transcribe(mixtures, None) == model.transcribe(rows, None)


def test_the_unit_table_starts_at_unit_length():
    lengths = make_model(embedding_dim=64).unit_embedding.weight.norm(dim=-1)
    assert lengths.mean().item() == pytest.approx(1.0, abs=0.1)
