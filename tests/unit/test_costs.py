"""docs/make_costs.py: the page is current, and a training's hours are what one computes by hand."""

import json
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COSTS = runpy.run_path(str(ROOT / "docs" / "make_costs.py"))
RECORD = json.loads((ROOT / "tests/benchmarks/records/step_shares-cuda.json").read_text())


def measured(part, audio):
    size = f"{audio} s"
    return RECORD["contenders"][size]["best_seconds"] * RECORD["checks"][f"{part} at {size}"]


def between(part):
    """At 200 s, a third of the way from 100 s to 400 s."""
    return measured(part, 100) + (measured(part, 400) - measured(part, 100)) / 3


def hours(variant, stage, overrides=(), **machine):
    [config] = COSTS["load_all"]([COSTS["RECIPE"] / f"{variant}.yaml"], overrides)
    costs = COSTS["Costs"](config, COSTS["Machine"](**machine), COSTS["Steps"].read())
    return {row.stage: row.gpu_hours for row in costs.rows()}[stage]


def test_the_page_is_current():
    page = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    made = COSTS["page"](COSTS["Machine"]())
    assert made == page, "run: python docs/make_costs.py > docs/costs.md"


def test_hours_of_training_by_hand():
    steps = 100.6 * 3600 / 400 * (1 + 5.4 / 100.6 / 3)
    asr, ssl, quantizer = map(between, ("ASR model", "SSL model", "quantizer"))
    optimizer = measured("optimizer", 400)
    fast = {"storage_gb": 1e9, "asr_growth": 2.0}
    frozen = 70 * steps * (2 * 2 * asr + optimizer) / 3600
    assert hours("continuous", "train_joint", **fast) == pytest.approx(frozen)
    both = 50 * (4 * asr + 2 * quantizer + optimizer)
    both += 20 * (4 * asr + 2 * quantizer + 2 * ssl + optimizer)
    assert hours("dkm_full", "train_joint", **fast) == pytest.approx(steps * both / 3600)


def test_copies_at_other_speeds_are_extracted_and_trained_on_as_long_as_they_last():
    speeds = ["training.speeds=[0.9, 1.0, 1.1]"]
    lengths = 1 / 0.9 + 1 + 1 / 1.1
    fast = {"storage_gb": 1e9}
    plain, copied = (hours("kmeans", "extract_features", keys, **fast) for keys in ((), speeds))
    assert copied / plain == pytest.approx((100.6 * lengths + 5.4) / 106)
    plain, copied = (hours("kmeans", "train_joint", keys, **fast) for keys in ((), speeds))
    assert copied / plain == pytest.approx((100.6 * lengths + 1.8) / (100.6 + 1.8))


def test_a_slow_storage_bounds_what_reads_features_and_what_writes_them():
    written = 106 * 3600 * 50 * 1024 * 2 * 6 / 1e9  # GB of six layers
    assert hours("kmeans", "extract_features", storage_gb=0.1) == pytest.approx(written / 360)
    fast, slow = (hours("dkm_layers", "train_joint", storage_gb=gb) for gb in (1e9, 0.1))
    assert slow > 2 * fast


def test_options_are_figures_of_the_machine(capsys):
    machine = COSTS["machine_of"](["--price", "2.5", "--vocoder-steps", "20"])
    assert (machine.price, machine.vocoder_steps) == (2.5, 20.0)
    assert machine.storage_gb == COSTS["Machine"]().storage_gb
