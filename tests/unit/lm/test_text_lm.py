"""A neural language model of texts: trained by a command, and used by the search."""

import re

import pytest
import torch
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.asr.model import AsrModel
from pipeline.asr.scorer import Weighted
from pipeline.asr.text_pieces import TextPieces
from pipeline.config import Asr, AsrEvaluation, FusedLanguageModel
from pipeline.config import TextPieces as TextPiecesSettings
from pipeline.lm.arpa import LanguageModelError
from pipeline.lm.fused import fingerprint, load
from pipeline.lm.text_lm import TextLm

SMALL = [
    "transformer.dim=16",
    "transformer.layers=1",
    "transformer.heads=2",
    "transformer.feedforward_dim=32",
    "transformer.dropout=0",
    "training.epochs=15",
    "training.batch_symbols=80",
    "training.warmup_steps=2",
    "training.learning_rate=0.03",
]


def save_asr(folder, alphabet="ab cd"):
    torch.manual_seed(0)
    settings = Asr(embedding_dim=16, dim=16, heads=2, feedforward_dim=24, conv_kernel=5)
    model = AsrModel(settings, None, 16, TextPieces.train(TextPiecesSettings(), [alphabet]))
    model.save_pretrained(folder / "asr")
    return model.eval()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folders of an ASR model and of a language model that was made by the command."""
    folder = tmp_path_factory.mktemp("text_lm")
    save_asr(folder)
    (folder / "texts.txt").write_text("ab cd\n" * 60 + "\n", encoding="utf-8")
    sets = [part for override in SMALL for part in ("--set", override)]
    result = CliRunner().invoke(
        app,
        [
            *("train-text-lm", str(folder / "texts.txt"), "--pieces-of", str(folder)),
            *("--output", str(folder / "lm"), *sets),
        ],
    )
    assert result.exit_code == 0, (result.output, result.exception)
    assert result.stdout.count("validation loss") == 15
    perplexity = re.search(
        r"57 sentences, perplexity of a piece (\d\.\d\d), written to", result.stdout
    )
    assert 1.0 <= float(perplexity[1]) < 1.5
    return folder


@torch.no_grad()
def test_the_model_is_stored_with_its_pieces(trained):
    lm = TextLm.from_pretrained(trained / "lm")
    assert lm.pieces.decode(lm.pieces.encode("ab cd")) == "ab cd"
    known, other = (float(lm.model([lm.pieces.encode(each)]).sum()) for each in ("ab cd", "dc ba"))
    assert known > other + 5


@torch.no_grad()
def test_the_search_fuses_it(trained):
    asr = AsrModel.from_pretrained(trained / "asr")
    lm = TextLm.from_pretrained(trained / "lm")
    heard = asr.hear([torch.randn(12, 16, generator=torch.manual_seed(0)).numpy()])
    settings = FusedLanguageModel(path=str(trained / "lm"), weight=1.5)
    [weighted] = load(settings, asr.text_pieces)
    assert isinstance(weighted, Weighted)
    search = AsrEvaluation(beam_size=8, length_bonus=1.0)
    [alone], [fused] = (asr.nbest(heard, search, each) for each in ((), (weighted,)))
    assert alone[0].text != fused[0].text
    log_p = {text: float(lm.model([lm.pieces.encode(text)]).sum()) for text in ("ab cd", "b")}
    for text, wanted in log_p.items():
        total, state = 0.0, weighted.scorer.begin(1, torch.device("cpu"))
        ids = lm.pieces.encode(text)
        for newest, following in zip([1, *ids], [*ids, 1], strict=True):
            log_probs, state = weighted.scorer.step(torch.tensor([newest]), state)
            total += log_probs[0, following].item()
        assert total == pytest.approx(wanted, abs=1e-3)


def test_what_identifies_it_is_its_content(trained, tmp_path):
    settings = FusedLanguageModel(path=str(trained / "lm"))
    before = fingerprint(settings)
    assert fingerprint(FusedLanguageModel(path=f"{trained}/lm/")) == before
    weights = trained / "lm" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert fingerprint(settings) != before
    weights.write_bytes(content)
    assert fingerprint(settings) == before


def test_models_that_do_not_fit_are_refused(trained, tmp_path):
    other = save_asr(tmp_path, "xyz")
    with pytest.raises(LanguageModelError, match="trained on other pieces of text"):
        load(FusedLanguageModel(path=str(trained / "lm")), other.text_pieces)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(LanguageModelError, match="no language model of texts"):
        load(FusedLanguageModel(path=str(tmp_path / "empty")), other.text_pieces)
