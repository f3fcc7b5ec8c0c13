"""Which MLflow run is a variant's: that of its settings, wherever they are computed."""

from pathlib import Path

from pipeline.config.files import load
from pipeline.tracking.run_name import name_of_variant

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def name(*overrides):
    return name_of_variant(load(CONFIGS / "an4" / "finetuned_kmeans.yaml", overrides))


def test_where_a_variant_is_computed_is_no_part_of_it_nor_of_the_one_that_it_names():
    elsewhere = ("cluster.extraction_workers=7", "storage=/moved", "tracking.experiment=an4")
    assert name(*elsewhere) == name()
    assert name("asr.dropout=0.3") != name()


def test_the_settings_of_the_variant_that_it_names_are_part_of_it(tmp_path):
    finetuner = tmp_path / "continuous_full.yaml"
    finetuner.write_text("extends: an4/continuous_full.yaml\nasr: {dropout: 0.3}\n")
    own = tmp_path / "finetuned_kmeans.yaml"
    own.write_text("extends: an4/finetuned_kmeans.yaml\n")
    assert name_of_variant(load(own, ())) != name()
