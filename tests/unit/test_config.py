"""The config: files, extends, overrides, and every message a mistake gets."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from pipeline.config import Config, ConfigError, digest
from pipeline.config.files import load, load_all
from pipeline.corpus.adapters.synthetic import SyntheticCorpus

HUB = {"model": "some/model", "revision": "0" * 40}


def write(folder: Path, name: str, **values) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.fixture
def minimal(tmp_path) -> Path:
    return write(tmp_path, "kmeans.yaml", corpus={"kind": "synthetic"}, ssl=HUB)


def test_the_variant_is_named_after_the_file_unless_it_says_otherwise(tmp_path, minimal):
    assert load(minimal).variant == "kmeans"
    named = write(tmp_path, "other.yaml", extends="kmeans.yaml", variant="mine")
    assert load(named).variant == "mine"


def test_extends_merges_sections_and_the_last_word_wins(tmp_path, minimal):
    write(tmp_path, "sub/delta.yaml", asr={"dim": 64, "dropout": 0.2}, codebook={"num_units": 9})
    path = write(
        tmp_path, "sub/leaf.yaml", extends=["../kmeans.yaml", "delta.yaml"], asr={"dropout": 0.3}
    )
    config = load(path)
    assert (config.asr.dim, config.asr.dropout, config.codebook.num_units) == (64, 0.3, 9)
    assert isinstance(config.corpus, SyntheticCorpus)


@pytest.mark.parametrize(
    ("corpus", "message"),
    [
        (
            {"kind": "ljspeech", "root": "r", "shares": {"valid": 0.1}},
            r"exactly the splits \['test', 'v",
        ),
        ({"kind": "ljspeech", "root": "r", "shares": {"valid": 0.5, "test": 0.5}}, "less than 1"),
        ({"kind": "an4", "root": "r", "held_out": {}}, r"\['valid'\].* has \['train', 'test'\]"),
        ({"kind": "an4", "root": "r", "held_out": {"test": ["a"]}}, r"may not name \['test'\]"),
        (
            {"kind": "an4", "root": "r", "held_out": {"valid": ["a", "b"], "more": ["b"]}},
            r"names \['b'\] twice",
        ),
        ({"kind": "lhotse", "cuts": {"train": "a", "test": "b"}}, r"no file for .*\['valid'\]"),
        ({"kind": "kaldi"}, "corpus.root: not set, and there is no default"),
        ({"kind": "kaldi", "root": "r", "alignment_format": "lab"}, "'textgrid', 'ctm' or 'phn'"),
    ],
)
def test_an_incomplete_corpus_is_refused(tmp_path, corpus, message):
    path = write(tmp_path, "a.yaml", corpus=corpus, ssl=HUB)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_extends_in_a_circle_is_refused(tmp_path):
    write(tmp_path, "a.yaml", extends="b.yaml")
    write(tmp_path, "b.yaml", extends="a.yaml")
    with pytest.raises(ConfigError, match="circle"):
        load(tmp_path / "a.yaml")


def test_overrides_are_yaml_values_by_dotted_path(minimal):
    config = load(minimal, ["asr.dim=256", "features.layers=[0, 2]", "storage=s3://bucket/x=y"])
    assert config.asr.dim == 256
    assert config.features.layers == (0, 2)
    assert config.storage == "s3://bucket/x=y"


def test_a_learned_number_has_no_parts_for_the_workers(minimal):
    overrides = ["cluster.sharding=fsdp", "quantizer.sigma.learned=true"]
    with pytest.raises(ConfigError, match=r"learned sigma is one number: set quantizer\.sigma"):
        load(minimal, overrides)
    assert load(minimal, overrides[:1]).cluster.sharding == "fsdp"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("asr.dim", "key.path=value"),
        ("=3", "key.path=value"),
        ("asr.dimm=3", r"asr\.dimm: unknown key; did you mean 'dim'\?"),
        ("codebok.layer=1", r"codebok: unknown key; did you mean 'codebook'\?"),
        ("asr.dim=wide", r"asr\.dim: .*integer"),
        ("asr.dim=0", r"asr\.dim: .*greater than or equal to 1"),
        ("asr.dim=130", "multiple of heads"),
        ("asr.conv_kernel=4", "odd"),
        ("asr.e_branchformer.merge_kernel=4", "odd"),
        ("asr.e_branchformer.cgmlp_dim=9", "even"),
        ("asr.dim=[1", "not readable as YAML"),
        ("ssl.model.name=x", "which has no keys"),
        ("corpus.kind=tape", "corpus: there is no corpus.kind 'tape': choose .*manifest"),
        ("corpus.min_word=9", r"corpus\.min_word: unknown key; did you mean 'min_words'\?"),
        ("corpus.min_seconds=99", r"corpus: min_seconds must be less"),
        ("corpus.min_words=99", "min_words"),
        ("corpus.splits.test=[train]", "one part only"),
        ("corpus.splits.train=other", "other"),
        ("corpus.alphabet=aab", "twice"),
        ("corpus.punctuation=.a", r"\['a'\] cannot be in alphabet and in punctuation"),
        ("codebook.layer=7", "not among features.layers"),
        ("features.layers=[2, 0]", "ascending"),
        ("features.layers=[]", "non-empty"),
        ("quantizer.tau_end=3", "tau only falls"),
        ("quantizer.kind=kmeans", "passes no gradient"),
        ("quantizer.kind=iterated", "'iterated_dkm'"),
        ("quantizer.iteration.max_iterations=0", "greater than or equal to 1"),
        ("quantizer.iteration.tolerance=-1", "greater than or equal to 0"),
        ("training.phases=[]", "at least one phase"),
        ("vocoder.hifigan.upsample_rates=[8]", "the same length"),
        ("ssl.revision=null", "needs ssl.revision"),
        ("features.sample_frames_per_second=0", "greater than 0"),
        ("features.sample_frames_per_second=5", "'frozen' reads all its frames"),
        ("features.precision=int8", "'bfloat16'"),
        ("training.select=cer", "'loss' or 'wer'"),
        ("training.speeds=[0.9, 1.1]", r"must name 1, the recordings as they are, and each"),
        ("training.speeds=[1, 0.9, 0.9]", "each speed once"),
        ("training.speeds=[1, 0.975]", "more than two decimals"),
        ("training.speeds=[1, 3]", "less than or equal to 2"),
    ],
)
def test_a_mistake_gets_one_message_that_names_it(minimal, override, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load(minimal, [override])
    assert "Traceback" not in str(caught.value)


def test_what_is_not_trained_selects_no_epochs(minimal):
    with pytest.raises(ConfigError, match=r"'wer' reads what CTC writes.*raise the weight"):
        load(minimal, ["training.select=wer", "asr.ctc_weight=0"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["training.select=wer", "token_asr.asr.ctc_weight=0"],
            r"which token_asr\.asr\.ctc_weight 0",
        ),
        (["token_asr.asr.ctc_weight=1"], r"0\.4 lets the attention decoder score"),
        (["token_asr.enabled=false", "asr.ctc_weight=0"], r"0\.4 lets the CTC score"),
        (["asr.ctc_weight=1"], r"to 1, or change asr\.ctc_weight"),
        (
            [
                "token_asr.enabled=false",
                "asr.ctc_weight=0",
                "asr_evaluation.ctc_weight=0",
                "asr_evaluation.assignment=soft",
            ],
            "name a temperature",
        ),
    ],
)
def test_what_is_not_trained_decides_nothing(minimal, overrides, message):
    with pytest.raises(ConfigError, match=message):
        load(minimal, ["token_asr.enabled=true", *overrides])


def test_a_model_that_is_not_searched_may_be_trained_by_ctc_alone(minimal):
    silent = ["asr.ctc_weight=1", "vocoder.enabled=false"]
    assert load(minimal, [*silent, "token_asr.enabled=true"])
    assert load(minimal, ["asr.ctc_weight=1", "asr_evaluation.ctc_weight=1"])


def test_an_utterance_at_the_highest_speed_must_be_a_frame_long(minimal):
    speeds, short = "training.speeds=[1.5, 1, 0.9]", "corpus.min_seconds=0.05"
    assert load(minimal, [speeds]).training.speeds == (0.9, 1.0, 1.5)
    assert load(minimal, [short])
    with pytest.raises(
        ConfigError, match=r"when they are played at 1.5 times their speed.*0.035 s"
    ):
        load(minimal, [speeds, short])


def test_a_sample_of_frames_goes_with_training_on_audio(minimal):
    sampled, phase = "features.sample_frames_per_second=5", "{epochs: 1, ssl: finetuned}"
    config = load(minimal, [sampled, f"training.phases=[{phase}]"])
    assert config.features.sample_frames_per_second == 5
    with pytest.raises(ConfigError, match="store all frames"):
        load(minimal, [sampled, f"training.phases=[{{epochs: 1}}, {phase}]"])


def test_kmeans_cannot_finetune_the_ssl_model(minimal):
    overrides = ["quantizer.kind=kmeans", "quantizer.layer_weights=fixed"]
    assert load(minimal, overrides).quantizer.kind == "kmeans"
    with pytest.raises(ConfigError, match="train nothing"):
        load(minimal, [*overrides, "training.phases=[{epochs: 1, ssl: finetuned}]"])


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "mapping"), ("a: [", "not readable as YAML"), ("\x00", "not readable as YAML")],
)
def test_a_file_that_is_no_config_is_refused(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such config file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no config was named"):
        load_all([])


def test_variants_of_one_comparison_have_names_of_their_own_and_one_storage(tmp_path, minimal):
    other = write(tmp_path, "other.yaml", extends="kmeans.yaml")
    assert [config.variant for config in load_all([minimal, other])] == ["kmeans", "other"]
    with pytest.raises(
        ConfigError, match=r"kmeans\.yaml and .*kmeans\.yaml have the same variant name"
    ):
        load_all([minimal, minimal])
    twin = write(tmp_path, "twin.yaml", extends="kmeans.yaml", variant="kmeans")
    with pytest.raises(
        ConfigError, match=r"kmeans\.yaml and .*twin\.yaml have the same variant name"
    ):
        load_all([minimal, other, twin])
    elsewhere = write(tmp_path, "elsewhere.yaml", extends="kmeans.yaml", storage="there")
    with pytest.raises(ConfigError, match="different storages"):
        load_all([minimal, elsewhere])


def test_a_config_is_fixed_once_read(minimal):
    config = load(minimal)
    with pytest.raises(ValidationError, match="frozen"):
        config.asr.dim = 3


def test_used_layers_are_the_codebooks_alone_unless_weights_are_learned(minimal):
    fixed = load(minimal, ["quantizer.layer_weights=fixed", "codebook.layer=1"])
    assert fixed.used_layers == (1,)
    assert load(minimal).used_layers == (0, 1, 2)


def test_the_resolved_config_reads_back_as_itself(minimal):
    config = load(minimal)
    assert (
        Config.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))))
        == config
    )


def test_the_digest_is_that_of_the_content():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": (1, 2), "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    # Pinned: another digest would make every output on disk stale.
    assert digest({"stage": "x", "ö": None}) == "f39a071104085620"


def test_the_config_imports_neither_torch_nor_ray():
    heavy = "{'torch', 'ray', 'mlflow', 'transformers', 'pyarrow'}"
    code = f"import sys, pipeline.config; print({heavy} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert found.stdout.strip() == "set()"
