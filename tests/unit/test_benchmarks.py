"""The benchmarks run at a tiny size and leave nobody out in silence; they time nothing here."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from benchmarks.__main__ import RECORDS
from benchmarks.measure import CLEAR_REFS, Contender, Cost, LeftOutError, extra_bytes, gather
from benchmarks.record import Record
from benchmarks.table import README, with_records

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
MEGABYTE = 1 << 20

# What each benchmark must hold, and the peers that may not be installed.
EXPECTED = {
    "dkm": (
        {"ours", "bare products", "plain", "wav2vec2"},
        {"vector_quantize", "vector_quantize gumbel"},
    ),
    "assignment": ({"ours", "bare product", "plain", "scikit-learn"}, {"faiss"}),
    "joint_step": ({"with quantizer", "without quantizer"}, set()),
    "step_shares": ({"2 s", "4 s"}, set()),
    "workers": ({"one worker", "two workers"}, set()),
}


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("records")
    command = [sys.executable, "-m", "benchmarks", *EXPECTED, "--size", "small"]
    process = subprocess.run(
        [*command, "--records", str(folder)],
        cwd=ROOT,
        # Two threads wait for each other at every tiny product on a busy machine.
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    for name in EXPECTED:
        assert f"== {name} on cpu" in process.stdout
    return {name: json.loads((folder / f"{name}-cpu.json").read_text()) for name in EXPECTED}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_contender_is_measured_or_said_to_be_left_out(records, name):
    needed, peers = EXPECTED[name]
    record = records[name]
    assert needed <= set(record["contenders"])
    assert set(record["contenders"]) | set(record["left_out"]) == needed | peers
    assert all("not installed" in why for why in record["left_out"].values())


@pytest.mark.parametrize("name", EXPECTED)
def test_figures_are_finite_and_positive(records, name):
    record = records[name]
    for cost in record["contenders"].values():
        assert len(cost["seconds"]) == record["setting"]["rounds"]
        for figure in (*cost["seconds"], cost["median_seconds"], cost["best_seconds"]):
            assert math.isfinite(figure)
            assert figure > 0
        assert cost["extra_bytes"] is None or cost["extra_bytes"] > 0
    assert record["ratios"]
    for ratio in record["ratios"]:
        figures = [value for name, value in ratio.items() if name not in {"of", "to"}]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures)


def test_the_parts_of_a_step_are_its_shares(records):
    checks = records["step_shares"]["checks"]
    for batch in ("2 s", "4 s"):
        parts = [share for name, share in checks.items() if name.endswith(f" at {batch}")]
        assert len(parts) == 4
        assert all(0 < share < 1 for share in parts)


def test_all_assign_alike(records):
    assert records["assignment"]["checks"]
    assert all(share > 0.99 for share in records["assignment"]["checks"].values())


def memory_of_known_calls() -> tuple[int | None, int | None]:
    """Of a call with 40 MB at its peak beside its result, and of one that needs less than that."""
    result = torch.ones(64 * MEGABYTE // 4)

    def larger():
        passing = [torch.ones(8 * MEGABYTE // 4) for _ in range(5)]
        total = sum(tensor.sum() for tensor in passing)
        return [result + total]

    def smaller():
        torch.ones(8 * MEGABYTE // 4)  # gone before the result is there
        return [result.clone()]

    larger()
    return extra_bytes(larger, CPU), extra_bytes(smaller, CPU)


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="peaks of resident memory are Linux's")
def test_extra_memory_is_that_of_the_call_without_its_results(monkeypatch):
    # In a process of its own, which maps large arrays from its start: what was given back to malloc
    # before, by other tests or the libraries, would be used first, and stay.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "65536")
    with multiprocessing.get_context("spawn").Pool(1) as process:
        larger, smaller = process.apply(memory_of_known_calls)
    assert larger == pytest.approx(40 * MEGABYTE, abs=4 * MEGABYTE)
    assert smaller < 4 * MEGABYTE


def test_contenders_that_cannot_run_are_named_with_the_reason():
    def absent() -> Contender:
        raise ModuleNotFoundError("no", name="peer")

    def too_large() -> Contender:
        raise LeftOutError("needs about 9.0 GB, 1.0 GB are free")

    contenders, left_out = gather(
        {"works": lambda: Contender("nothing", tuple), "absent": absent, "large": too_large}
    )
    assert set(contenders) == {"works"}
    assert left_out == {
        "absent": "peer is not installed",
        "large": "needs about 9.0 GB, 1.0 GB are free",
    }


def test_ratios_compare_those_who_took_part_and_memory_of_equal_shares():
    costs = {
        "a": Cost("", 1.0, (4.0, 6.0, 5.0), 300),
        "b": Cost("", 1.0, (2.0, 4.0, 1.0), 100),
        "part": Cost("", 0.1, (10.0,), 100),
    }
    pairs = (("a", "b"), ("part", "b"), ("absent", "b"))
    record = Record("x", "cpu", "small", {}, costs, {}, pairs)
    assert record.ratios == [
        {"of": "a", "to": "b", "median_seconds": 2.5, "best_seconds": 4.0, "extra_bytes": 3.0},
        {"of": "part", "to": "b", "median_seconds": 5.0, "best_seconds": 10.0},
    ]


def test_the_readme_shows_the_records_there_are():
    readme = README.read_text(encoding="utf-8")
    assert with_records(readme, RECORDS) == readme
