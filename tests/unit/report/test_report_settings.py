"""Settings: where the variants differ, and what else was chosen."""

from evaluated_variants import config

from pipeline.report.settings import settings


def test_only_keys_that_differ_are_compared(tmp_path):
    one = config(tmp_path, "kmeans")
    quantizer = one.quantizer.model_copy(update={"tau_start": 0.5})
    other = one.model_copy(update={"variant": "dkm", "quantizer": quantizer})
    found = settings([one, other])
    assert found.differing == {"quantizer.tau_start": [str(one.quantizer.tau_start), "0.5"]}
    assert found.shared["ssl.model"] == "some/model"
    assert "asr.dim" not in found.shared
    assert "storage" not in found.shared


def test_a_training_that_another_starts_from_is_named(tmp_path):
    base = config(tmp_path, "continuous_full")
    ssl = base.ssl.model_copy(update={"finetuned_by": base})
    tuned = base.model_copy(update={"variant": "finetuned_kmeans", "ssl": ssl})
    found = settings([base, tuned])
    assert found.differing == {"ssl.finetuned_by": ["null", "continuous_full"]}


def test_a_variant_that_judges_the_speech_of_another_is_named(tmp_path):
    judge = config(tmp_path, "continuous")
    resynthesis = judge.resynthesis.model_copy(update={"judge": judge})
    judged = judge.model_copy(update={"variant": "kmeans", "resynthesis": resynthesis})
    assert settings([judge, judged]).differing == {"resynthesis.judge": ["own", "continuous"]}
    assert settings([judged]).shared["resynthesis.judge"] == "continuous"
