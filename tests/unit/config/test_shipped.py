"""Which files a name on the command line stands for."""

from pathlib import Path

import pytest

from pipeline.config import ConfigError, Ssl
from pipeline.config.files import load, sources
from pipeline.config.shipped import SHIPPED, config_files

CONFIGS = SHIPPED / "configs"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(name):
    return [path.name for path in config_files(name)]


@pytest.mark.parametrize("name", ["demo", "configs/demo", "demo/"])
def test_a_shipped_folder_stands_for_its_variants(name):
    assert config_files(name) == sorted((CONFIGS / "demo").glob("*.yaml"))
    assert names(name) == ["dkm_full.yaml", "kmeans.yaml"]


@pytest.mark.parametrize("name", ["demo/kmeans", "demo/kmeans.yaml", "configs/demo/kmeans.yaml"])
def test_a_shipped_variant_is_one_file(name):
    assert config_files(name) == [CONFIGS / "demo" / "kmeans.yaml"]


def test_a_shipped_config_without_variants_is_its_file():
    assert config_files("pretrain_encoder") == [CONFIGS / "pretrain_encoder.yaml"]


def test_what_is_in_the_current_folder_comes_first(elsewhere):
    (elsewhere / "demo").mkdir()
    assert names("demo") == [
        "dkm_full.yaml",
        "kmeans.yaml",
    ]  # a folder without configs is no config
    (elsewhere / "demo" / "mine.yaml").write_text("")
    assert config_files("demo") == [Path("demo/mine.yaml")]
    assert config_files("demo/mine.yaml") == [Path("demo/mine.yaml")]


def test_a_config_of_ones_own_extends_shipped_ones(elsewhere):
    (elsewhere / "mine.yaml").write_text("extends: [demo.yaml, configs/variants/kmeans.yaml]\n")
    assert load(elsewhere / "mine.yaml").quantizer.kind == "kmeans"
    assert CONFIGS / "demo.yaml" in sources(elsewhere / "mine.yaml")
    (elsewhere / "demo.yaml").write_text("corpus: {kind: synthetic, seed: 5}\n")
    assert load(elsewhere / "mine.yaml").corpus.seed == 5


def test_an_unknown_name_lists_the_shipped_ones():
    with pytest.raises(
        ConfigError, match=r"^dmo: there is no .* an4_whisper, demo, kaldi, .*spoken_digits_folds;"
    ):
        config_files("dmo")


def test_a_shipped_encoder_is_found_from_any_folder(elsewhere):
    assert Ssl().source == str(CONFIGS / "small_encoder")
    (elsewhere / "configs" / "small_encoder").mkdir(parents=True)
    assert Ssl().source == "configs/small_encoder"


def test_other_models_are_left_to_the_hub():
    assert Ssl(model="some/model", revision="abc").source == "some/model"
