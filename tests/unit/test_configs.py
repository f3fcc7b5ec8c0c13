"""Every checked-in config is a test case."""

from pathlib import Path

import pytest
import yaml

from pipeline.config import Config, Quantizer
from pipeline.config.files import load, load_all, sources
from pipeline.config.space import read_space

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
VARIANTS = {"kmeans", "dkm_codebook", "dkm_layers", "dkm_full", "continuous"}
CONTROLS = {"finetuned_kmeans", "dkm_frozen_codebook", "continuous_full"}
ALL = VARIANTS | CONTROLS | {"phonological"}
# These have every variant, and a log of what was measured.
RECIPES = (
    "an4",
    "an4_whisper",
    "librispeech100",
    "ljspeech",
    "speechocean762",
    "spoken_digits",
    "spoken_digits_folds",
)
EXAMPLES = ("demo", "kaldi")
# Beside a folder of variants is what they have in common; other folders hold encoders or deltas.
LEAVES = sorted(
    path for path in CONFIGS.glob("*/*.yaml") if path.parent.with_suffix(".yaml").is_file()
)
ROOT_LEAVES = [CONFIGS / "ljspeech_hour.yaml", CONFIGS / "pretrain_encoder.yaml"]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    # Paths in configs are relative to the repository, as the commands of the README are.
    monkeypatch.chdir(CONFIGS.parent)


def read(path: Path) -> Config:
    try:
        return load(path)
    except ValueError as error:
        if "is not a folder here" in str(error) and not (CONFIGS / "small_encoder").is_dir():
            pytest.skip("the small encoder is not there yet")
        raise


@pytest.mark.parametrize(
    "path",
    [*LEAVES, *(path for path in ROOT_LEAVES if path.exists())],
    ids=lambda path: path.relative_to(CONFIGS).as_posix(),
)
def test_it_loads(path):
    config = read(path)
    assert config.codebook.layer in config.features.layers


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_a_leaf_is_its_corpus_and_its_variant_and_at_most_a_schedule_and_a_layer(path):
    values = yaml.safe_load(path.read_text())
    corpus, variant = path.parent.name, path.stem
    assert values.pop("extends") == [f"../{corpus}.yaml", f"../variants/{variant}.yaml"]
    assert values.keys() <= {"training", "codebook"}
    assert values.get("training", {}).keys() <= {"phases", "train_front_end"}
    assert values.get("codebook", {}).keys() <= {"layer"}


def test_the_variants_are_the_five_of_the_comparison_controls_and_the_phonological_one():
    assert {path.stem for path in (CONFIGS / "variants").glob("*.yaml")} == ALL
    assert {path.parent.name for path in LEAVES} == {*RECIPES, *EXAMPLES}
    for corpus in RECIPES:
        assert {path.stem for path in (CONFIGS / corpus).glob("*.yaml")} == ALL
    for corpus in EXAMPLES:
        assert {path.stem for path in (CONFIGS / corpus).glob("*.yaml")} == {"kmeans", "dkm_full"}


@pytest.mark.parametrize("corpus", RECIPES)
def test_a_recipe_has_a_log(corpus):
    log = (CONFIGS / corpus / "LOG.md").read_text()
    assert f"dkm run {corpus}" in log


@pytest.mark.parametrize("corpus", [*RECIPES, *EXAMPLES])
def test_variants_differ_in_nothing_but_their_variant(corpus):
    paths = sorted((CONFIGS / corpus).glob("*.yaml"))
    for path in paths:
        read(path)
    configs = load_all(paths)
    own = {
        **dict.fromkeys(("variant", "quantizer", "resynthesis_loss", "training", "vocoder"), True),
        "ssl": {"finetuned_by"},
        "codebook": {"layer"},
    }
    assert len({config.model_dump_json(exclude=own) for config in configs}) == 1

    def epochs(config: Config) -> int:
        return sum(phase.epochs for phase in config.training.phases)

    assert len(set(map(epochs, configs))) == 1
    of_variant = {"phases", "train_front_end"}
    assert len({config.training.model_dump_json(exclude=of_variant) for config in configs}) == 1
    finetuning = [config.training for config in configs if config.training.finetunes_ssl]
    assert len({training.train_front_end for training in finetuning}) == 1
    assert len({config.vocoder.model_dump_json(exclude={"enabled"}) for config in configs}) == 1


@pytest.mark.parametrize("control", ["continuous_full", "dkm_frozen_codebook"])
def test_a_control_differs_from_dkm_full_in_what_it_controls_alone(control, tmp_path):
    def of(name: str) -> Config:
        file = tmp_path / f"{name}.yaml"
        folder = CONFIGS.resolve()
        bases = [f"{folder}/spoken_digits.yaml", f"{folder}/variants/{name}.yaml"]
        file.write_text(yaml.safe_dump({"extends": bases}))
        return load(file)

    full, other = of("dkm_full"), of(control)
    assert [phase.ssl for phase in other.training.phases] == ["frozen", "finetuned"]
    if control == "continuous_full":
        assert (other.quantizer.kind, other.vocoder.enabled) == ("none", False)
        assert other.training == full.training
    else:
        assert {phase.codebook for phase in other.training.phases} == {"frozen"}
        assert other.quantizer == full.quantizer


def test_finetuned_kmeans_is_kmeans_on_what_continuous_full_has_finetuned():
    by_name = {path.stem: read(path) for path in (CONFIGS / "an4").glob("*.yaml")}
    finetuned, kmeans = by_name["finetuned_kmeans"], by_name["kmeans"]
    assert finetuned.ssl.finetuned_by == by_name["continuous_full"]
    layer = {"layer": kmeans.codebook.layer}  # the best of a frozen encoder is not that of this one
    codebook = finetuned.codebook.model_copy(update=layer)
    same = {"variant": "kmeans", "ssl": kmeans.ssl, "codebook": codebook}
    assert finetuned.model_copy(update=same) == kmeans
    assert by_name["continuous_full"].training.phases == by_name["dkm_full"].training.phases


def test_what_learns_is_what_the_variant_says():
    by_name = {
        path.stem: read(path) for path in sorted((CONFIGS / "librispeech100").glob("*.yaml"))
    }
    learned = {
        name: (
            config.quantizer.kind,
            config.quantizer.layer_weights,
            config.training.finetunes_ssl,
            config.vocoder.enabled,
        )
        for name, config in by_name.items()
    }
    assert learned == {
        "kmeans": ("kmeans", "fixed", False, True),
        "finetuned_kmeans": ("kmeans", "fixed", False, True),
        "dkm_codebook": ("dkm", "fixed", False, True),
        "dkm_layers": ("dkm", "learned", False, True),
        "dkm_frozen_codebook": ("dkm", "learned", True, True),
        "dkm_full": ("dkm", "learned", True, True),
        "phonological": ("dkm", "learned", True, True),
        "continuous": ("none", "learned", False, False),
        "continuous_full": ("none", "learned", True, False),
    }


@pytest.mark.parametrize("corpus", RECIPES)
def test_phonological_is_dkm_full_with_a_resynthesis_loss(corpus):
    full, other = (read(CONFIGS / corpus / f"{name}.yaml") for name in ("dkm_full", "phonological"))
    assert full.resynthesis_loss.weight == 0
    assert other.resynthesis_loss.weight > 0
    same = {"variant": "dkm_full", "resynthesis_loss": full.resynthesis_loss}
    assert other.model_copy(update=same) == full


@pytest.mark.parametrize("corpus", RECIPES)
def test_what_fine_tunes_has_one_schedule(corpus):
    full, *others = (
        read(CONFIGS / corpus / f"{name}.yaml").training.phases
        for name in ("dkm_full", "dkm_frozen_codebook", "continuous_full")
    )
    for phases in others:
        for phase, of_full in zip(phases, full, strict=True):
            assert (phase.epochs, phase.ssl) == (of_full.epochs, of_full.ssl)
            assert phase.learning_rates.ssl == of_full.learning_rates.ssl
    frozen, tuned = full
    assert (frozen.ssl, tuned.ssl) == ("frozen", "finetuned")


@pytest.mark.parametrize("corpus", [*RECIPES, *EXAMPLES])
def test_a_recipe_names_its_weight_of_the_kmeans_loss(corpus):
    assert Quantizer().kmeans_loss_weight == 0.0
    files = sources(CONFIGS / corpus / "dkm_full.yaml")
    quantizers = [yaml.safe_load(file.read_text()).get("quantizer", {}) for file in files]
    assert any("kmeans_loss_weight" in quantizer for quantizer in quantizers)


@pytest.mark.parametrize(
    "encoder", sorted((CONFIGS / "encoders").glob("*.yaml")), ids=lambda path: path.stem
)
def test_any_encoder_goes_with_any_corpus(encoder, tmp_path):
    file = tmp_path / "mine.yaml"
    bases = ["an4.yaml", str(encoder), "variants/dkm_full.yaml"]
    file.write_text(yaml.safe_dump({"extends": bases}))
    config = load(file)
    assert config.ssl.model == yaml.safe_load(encoder.read_text())["ssl"]["model"]
    assert (config.corpus.kind, config.codebook.num_units) == ("an4", 128)


@pytest.mark.parametrize(
    ("space", "corpora"),
    [("small", ["an4"]), ("whisper_base", ["an4_whisper", "speechocean762"])],
)
def test_tune_may_change_every_key_of_a_space_in_what_fine_tunes_the_codebook(space, corpora):
    found = read_space(CONFIGS / "spaces" / f"{space}.yaml")
    for corpus in corpora:
        assert not found.keys_without(read(CONFIGS / corpus / "dkm_full.yaml"))


@pytest.mark.parametrize("corpus", ["an4", "speechocean762"])
def test_a_recipe_takes_a_manifest_in_place_of_the_distribution(corpus):
    manifest = ["corpus.kind=manifest", "corpus.manifest=m.jsonl"]
    config = load(CONFIGS / corpus / "kmeans.yaml", manifest)
    assert (config.corpus.kind, config.corpus.manifest) == ("manifest", "m.jsonl")
    assert config.corpus.splits == read(CONFIGS / corpus / "kmeans.yaml").corpus.splits


def test_librispeech_has_the_published_settings():
    config = read(CONFIGS / "librispeech100" / "dkm_full.yaml")
    assert config.ssl.model == "microsoft/wavlm-large"
    assert len(config.ssl.revision or "") == 40
    assert (config.codebook.layer, config.codebook.num_units) == (21, 2000)
    sigma = config.quantizer.sigma
    assert (sigma.kind, sigma.value, sigma.learned) == ("fixed", 1.0, False)
    quantizer = config.quantizer
    assert (quantizer.tau_start, quantizer.tau_end, quantizer.tau_decay) == (2.0, 0.1, 0.999995)
    assert (quantizer.distance, quantizer.kmeans_loss_weight) == ("euclidean", 0.0)
    asr = config.asr
    assert (asr.ctc_weight, asr.decoder_feedforward_dim, asr.time_masking.masks) == (0.3, 2048, 10)
    assert (asr.encoder, asr.positions) == ("e_branchformer", "relative")
    assert (asr.encoder_layers, asr.dim, asr.heads, asr.feedforward_dim) == (12, 256, 4, 1024)
    gated = asr.e_branchformer
    assert (gated.cgmlp_dim, asr.conv_kernel, gated.merge_kernel) == (1024, 31, 31)
    first, second = config.training.phases
    assert (first.ssl, first.quantizer) == ("frozen", "nearest")
    assert (second.ssl, second.quantizer, second.codebook) == ("finetuned", "sampled", "learned")


def test_the_recipe_of_stored_tokens_is_kmeans_with_another_asr():
    kmeans = read(CONFIGS / "an4" / "kmeans.yaml")
    tokens = read(CONFIGS / "an4_tokens" / "kmeans_tokens.yaml")
    same = {"variant": "kmeans", "token_asr": kmeans.token_asr}
    assert tokens.model_copy(update=same) == kmeans
    assert tokens.token_asr.enabled
    assert not kmeans.token_asr.enabled
