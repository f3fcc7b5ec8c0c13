"""The LibriSpeech recipe as it stands, all variants and controls to their last score, on a miniature.

Widths, epochs and steps are small; everything else is the recipe's own.
"""

from pathlib import Path

import pytest
from miniature_librispeech import write_librispeech
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMModel
from without_ray import run_here

from pipeline.config.files import load_all

pytestmark = pytest.mark.slow

RECIPE = Path("configs/librispeech100")
WITH_UNITS = {
    "kmeans",
    "finetuned_kmeans",
    "dkm_codebook",
    "dkm_layers",
    "dkm_frozen_codebook",
    "dkm_full",
    "phonological",
}
VARIANTS = WITH_UNITS | {"continuous", "continuous_full"}
SMALL = [
    "codebook.num_units=8",
    "asr.text.vocabulary_size=12",
    "asr.embedding_dim=16",
    "asr.dim=16",
    "asr.feedforward_dim=16",
    "asr.encoder_layers=2",
    "asr.e_branchformer.cgmlp_dim=16",
    "asr.decoder_layers=1",
    "asr.decoder_feedforward_dim=16",
    "training.phases[].epochs=1",
    "training.batch_seconds=8",
    "asr_evaluation.beam_size=2",
    "vocoder.unit_dim=8",
    "vocoder.speaker_dim=4",
    "vocoder.hifigan.initial_channels=16",
    "vocoder.adversaries.channels=1",
    "vocoder.batch_size=2",
    "vocoder.steps=2",
    "vocoder.adversaries.from_step=1",
    "resynthesis.utterances_per_split=1",
    "tracking.enabled=false",
    "cluster.gpus_per_worker=0",
    "cluster.cpus_per_worker=1",
]


def save_narrow_wavlm(folder: Path) -> Path:
    """WavLM-large's 24 blocks and norms, 16 wide."""
    config = WavLMConfig(
        hidden_size=16,
        num_hidden_layers=24,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
    )
    WavLMModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    """The artifact of each variant's stages, all variants run together."""
    folder = tmp_path_factory.mktemp("librispeech")
    root, alignments = write_librispeech(folder)
    places = {
        "storage": folder / "runs",
        "corpus.root": root,
        "corpus.alignments": alignments,
        "ssl.model": save_narrow_wavlm(folder / "ssl"),
        "ssl.revision": "null",
    }
    overrides = [*(f"{key}={value}" for key, value in places.items()), *SMALL]
    configs = load_all([RECIPE / f"{variant}.yaml" for variant in sorted(VARIANTS)], overrides)
    graph, _ = run_here(configs)
    return {(v, node.name): node.artifact for node in graph.nodes for v in node.variants}


def test_every_variant_has_a_word_error_rate_on_both_test_splits(nodes):
    for variant in VARIANTS:
        for split in ("test-clean", "test-other"):
            scores = nodes[variant, f"evaluate_asr/{split}"].metrics()
            assert scores[f"{split}.wer"] > 0
            rows = nodes[variant, f"evaluate_asr/{split}"].read_table("hypotheses.parquet")
            assert len(rows) == 4


def test_variants_with_units_have_purity_and_speech(nodes):
    for variant in WITH_UNITS:
        for split in ("test-clean", "test-other"):
            purity = nodes[variant, f"phone_purity/{split}"].metrics()
            assert 0 < purity[f"{split}.phone_purity"] <= 1
            speech = nodes[variant, f"evaluate_resynthesis/{split}"].metrics()
            assert any(name.startswith(split) for name in speech)
    assert {variant for variant, name in nodes if name == "train_vocoder"} == WITH_UNITS


def test_the_encoder_is_the_authors_and_nothing_was_left_out(nodes):
    described = nodes["dkm_full", "train_joint"].read_json("asr/config.json")
    assert (described["asr"]["encoder"], described["asr"]["positions"]) == (
        "e_branchformer",
        "relative",
    )
    assert nodes["kmeans", "prepare_corpus"].read_table("rejects.parquet").num_rows == 0
    assert nodes["kmeans", "prepare_corpus"].read_table("corpus.parquet").num_rows == 19
