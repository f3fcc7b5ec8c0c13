"""docs/new_quantizer.md works as it stands: its quantizer is configured, trains and tokenizes."""

import re
import sys
from pathlib import Path

import pytest
import soundfile
import torch
from support import (
    SMALL_ASR,
    features_of_splits,
    save_tiny_ssl,
    tone_utterances,
    write_codebook,
    write_corpus,
    write_features,
)

from pipeline.clustering.codebook import Codebook
from pipeline.config.files import load
from pipeline.log.stage_log import StageLog
from pipeline.progress import SILENT
from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.training.train_joint import train_joint
from pipeline.training.worker import Worker

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "new_quantizer.md").read_text(encoding="utf-8")


def block(language):
    (content,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return content


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The page's config, with a small SSL model and few steps."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "cosine_quantizer.py").write_text(block("python"))
    (tmp_path / "cosine.yaml").write_text(block("yaml"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    overrides = [f"asr.{key}={value}" for key, value in SMALL_ASR.items()]
    overrides += [
        f"ssl.model={save_tiny_ssl(tmp_path / 'ssl')}",
        "features.layers=[0, 1, 2]",
        "codebook.layer=2",
        "codebook.num_units=8",
        "training.batch_seconds=2.5",
        "training.phases=[{epochs: 2}, {epochs: 1, ssl: finetuned}]",
    ]
    yield load("cosine.yaml", overrides)
    for name in ("my_package", "my_package.cosine_quantizer"):
        sys.modules.pop(name, None)


@pytest.fixture
def inputs(config, tmp_path):
    (tmp_path / "audio").mkdir()
    utterances = [
        utterance
        for split, number in (("train", 8), ("valid", 3))
        for utterance in tone_utterances(tmp_path / "audio", split, number)
    ]
    features = write_features(Artifact(str(tmp_path / "f")), tmp_path / "ssl", utterances)
    return {
        "prepare_corpus": write_corpus(Artifact(str(tmp_path / "c")), utterances),
        **features_of_splits(features),
        "fit_codebook": write_codebook(Artifact(str(tmp_path / "k")), features, 2, 8),
    }


def test_the_config_names_the_file_and_its_keys(config):
    assert config.quantizer.sharpness == 20.0
    assert config.quantizer.has_units
    assert config.quantizer.settings()["kind"] == "my_package.cosine_quantizer"


def test_it_trains_and_the_saved_tokenizer_gives_its_units(config, inputs, tmp_path):
    output = Artifact(str(tmp_path / "out"))
    scores = train_joint(config, inputs, output, Worker(), log=StageLog(output), progress=SILENT)
    assert scores["steps"] > 6
    tokenizer = UnitTokenizer.from_pretrained(tmp_path / "out" / "tokenizer")
    centroids_KD = tokenizer.centroids_KD
    torch.testing.assert_close(centroids_KD.norm(dim=1), torch.ones(8))
    assert not torch.allclose(centroids_KD, start(config, inputs), atol=1e-3)

    samples, _ = soundfile.read(tmp_path / "audio" / "valid-000.flac", dtype="float32")
    [units] = tokenizer.encode([samples])
    frames_TD = torch.from_numpy(tokenizer.mixer.encode([samples])[0])
    cosines_TK = torch.nn.functional.cosine_similarity(
        frames_TD.double()[:, None], centroids_KD.double(), dim=-1
    )
    assert units.tolist() == cosines_TK.argmax(dim=1).tolist()


def start(config, inputs):
    return config.quantizer.build(Codebook.read(inputs["fit_codebook"])).centroids_KD.detach()


def test_in_evaluation_padding_is_zero_and_embedded_rows_are_those_of_the_units(config, inputs):
    quantizer = config.quantizer.build(Codebook.read(inputs["fit_codebook"])).eval()
    frames_BTD, mask_BT = torch.randn(2, 5, 16), torch.ones(2, 5, dtype=torch.bool)
    frames_BTD[1, 3:], mask_BT[1, 3:] = torch.nan, False
    embedding_KE = torch.randn(8, 3)
    quantized = quantizer(frames_BTD, mask_BT, embedding_KE, tau=1.0, seed=0)
    torch.testing.assert_close(
        quantized.embedded_BTE[mask_BT], embedding_KE[quantized.units_BT[mask_BT]]
    )
    assert not quantized.embedded_BTE[1, 3:].any()
    assert not quantized.units_BT[1, 3:].any()
    assert quantized.stats["counts_K"].sum() == 8
