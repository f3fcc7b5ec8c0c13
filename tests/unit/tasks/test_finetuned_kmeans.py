"""finetuned_kmeans for real: what it extracts, clusters and tokenizes with is the fine-tuned model."""

import numpy as np
import pytest
import soundfile
import torch
import yaml
from support import SMALL_ASR, save_tiny_ssl, write_tone_manifest
from without_ray import run_here

from pipeline.config.files import load_all
from pipeline.features.encoders.load import load_encoder
from pipeline.features.ssl import pad_waveforms
from pipeline.storage.table_schemas import layer_column

pytestmark = pytest.mark.slow

LAYERS = (0, 1, 2)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two config files over one corpus of tones."""
    folder = tmp_path_factory.mktemp("finetuned")
    manifest = write_tone_manifest(folder / "corpus", {"train": 12, "valid": 3, "test": 3})
    save_tiny_ssl(folder / "ssl")
    phase = {"epochs": 2, "warmup_steps": 2}
    values = {
        "storage": str(folder / "runs"),
        "corpus": {"kind": "manifest", "manifest": str(manifest)},
        "ssl": {"model": str(folder / "ssl")},
        "features": {"layers": list(LAYERS)},
        "codebook": {"num_units": 8, "layer": 2},
        "asr": SMALL_ASR,
        "training": {"phases": [phase], "batch_seconds": 5.0},
        "vocoder": {"enabled": False},
        "tracking": {"enabled": False},
    }
    full = {
        "quantizer": {"kind": "none"},
        "training": {"phases": [phase, {**phase, "ssl": "finetuned"}]},
    }
    own = {
        "ssl": {"finetuned_by": "continuous_full.yaml"},
        "quantizer": {"kind": "kmeans", "layer_weights": "fixed"},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(values))
    for name, delta in (("continuous_full", full), ("finetuned_kmeans", own)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"extends": "base.yaml", **delta}))
    return folder


@pytest.fixture(scope="module")
def finished(project):
    return run_here(load_all([project / "finetuned_kmeans.yaml"]))


@pytest.fixture(scope="module")
def nodes(finished):
    """By variant and name."""
    return {(v, node.name): node for node in finished[0].nodes for v in node.variants}


def hidden_states(folder, audio):
    samples, _ = soundfile.read(audio, dtype="float32")
    with torch.inference_mode():
        return load_encoder(folder)(*pad_waveforms([samples]), LAYERS).hidden_LBTD[:, 0].numpy()


def test_its_features_and_its_tokenizer_are_those_of_the_finetuned_model(project, nodes):
    trained = nodes["continuous_full", "train_joint"].artifact
    assert trained.is_complete()
    features = nodes["finetuned_kmeans", "extract_features/valid"].artifact
    [row] = features.read_table("shards/valid-00000.parquet").slice(0, 1).to_pylist()
    audio = project / "corpus" / f"{row['utt_id']}.flac"
    stored_LTD = np.array([row[layer_column(layer)] for layer in LAYERS], dtype=np.float32)
    finetuned_LTD = hidden_states(trained.path("features/ssl"), audio)
    np.testing.assert_allclose(stored_LTD, finetuned_LTD, rtol=2e-3, atol=2e-3)
    assert np.abs(stored_LTD - hidden_states(project / "ssl", audio))[2].max() > 0.02

    tokenizer = nodes["finetuned_kmeans", "train_joint"].artifact
    np.testing.assert_array_equal(
        hidden_states(tokenizer.path("tokenizer/ssl"), audio), finetuned_LTD
    )
    assert nodes["finetuned_kmeans", "evaluate_asr/test"].artifact.metrics()["test.wer"] >= 0


def test_the_training_is_there_when_its_own_variant_is_run(project, finished, nodes):
    trained = nodes["continuous_full", "train_joint"]
    assert trained.label in finished[1]
    assert ("continuous_full", "evaluate_asr/test") not in nodes
    names = ("finetuned_kmeans", "continuous_full")
    graph, ran = run_here(load_all([project / f"{name}.yaml" for name in names]))
    assert ran == ["evaluate_asr/test[continuous_full]"]
    assert trained.key in {node.key for node in graph.nodes}
