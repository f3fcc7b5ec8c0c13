"""The benchmarks run at a tiny size and leave nobody out in silence; they time nothing here."""

import json
import math
import multiprocessing
import os
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
import torch
from benchmarks.__main__ import RECORDS
from benchmarks.arithmetic import dense_rate, of_addmm, operations, operations_by_length
from benchmarks.measure import CLEAR_REFS, Contender, Cost, LeftOutError, extra_bytes, gather
from benchmarks.record import Record
from benchmarks.table import README, with_records

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
MEGABYTE = 1 << 20

# What each benchmark must hold, and the peers that may not be installed.
EXPECTED = {
    "dkm": (
        {
            "ours",
            "bare products",
            "plain",
            "wav2vec2",
            "ours, euclidean",
            "plain, euclidean",
            "ours, iterated",
        },
        {"vector_quantize", "vector_quantize gumbel"},
    ),
    "assignment": ({"ours", "bare product", "plain", "scikit-learn"}, {"faiss"}),
    "ssl_forward": (
        {
            f"{work} lengths, {who}"
            for work in ("equal", "mixed")
            for who in ("ours", "transformers")
        },
        set(),
    ),
    "purity": ({"ours", "loop"}, set()),
    "decoding": (
        {"tiny, beam 2, batch", "tiny, beam 2, one at a time", "tiny, beam 2, encoder"},
        set(),
    ),
    "vocoder": (
        {"istft", "istft, one at a time", "hifigan", "hifigan, one at a time"},
        set(),
    ),
    "joint_step": ({"with quantizer", "without quantizer"}, set()),
    "step_shares": ({"2 s", "4 s"}, set()),
    "workers": ({"one worker", "two workers"}, set()),
}


# These train models, each for half a minute.
LONG = {"joint_step", "step_shares", "workers"}
NAMES = [pytest.param(name, marks=pytest.mark.soak if name in LONG else ()) for name in EXPECTED]


def record(name: str) -> dict:
    """What a benchmark writes; all but the long ones are measured by one command."""
    together = [name] if name in LONG else [other for other in EXPECTED if other not in LONG]
    return records(*together)[name]


@cache
def records(*names: str) -> dict[str, dict]:
    command = [sys.executable, "-m", "benchmarks", *names, "--size", "small"]
    with tempfile.TemporaryDirectory() as folder:
        process = subprocess.run(
            [*command, "--records", folder],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert process.returncode == 0, process.stderr
        files = {name: Path(folder, f"{name}-cpu.json") for name in names}
        assert all(f"== {name} on cpu" in process.stdout for name in names)
        return {name: json.loads(file.read_text()) for name, file in files.items()}


@pytest.mark.parametrize("name", NAMES)
def test_every_contender_is_measured_or_said_to_be_left_out(name):
    needed, peers = EXPECTED[name]
    found = record(name)
    assert needed <= set(found["contenders"])
    assert set(found["contenders"]) | set(found["left_out"]) == needed | peers
    assert all("not installed" in why for why in found["left_out"].values())


@pytest.mark.parametrize("name", NAMES)
def test_figures_are_finite_and_positive(name):
    found = record(name)
    for cost in found["contenders"].values():
        assert len(cost["seconds"]) == found["setting"]["rounds"]
        for figure in (*cost["seconds"], cost["median_seconds"], cost["best_seconds"]):
            assert math.isfinite(figure)
            assert figure > 0
        assert cost["extra_bytes"] is None or cost["extra_bytes"] > 0
    assert found["ratios"]
    for ratio in found["ratios"]:
        figures = [value for name, value in ratio.items() if name not in {"of", "to"}]
        assert all(math.isfinite(figure) and figure > 0 for figure in figures)


@pytest.mark.soak
def test_the_parts_of_a_step_are_its_shares():
    checks = record("step_shares")["checks"]
    for batch in ("2 s", "4 s"):
        parts = [share for name, share in checks.items() if name.endswith(f" at {batch}")]
        assert len(parts) == 4
        assert all(0 < share < 1 for share in parts)


def test_all_assign_alike():
    checks = record("assignment")["checks"]
    assert checks
    assert all(share > 0.99 for share in checks.values())


def test_forward_passes_tell_their_share_of_the_arithmetic():
    checks = record("ssl_forward")["checks"]
    shares = {name: share for name, share in checks.items() if name.endswith("of the dense rate")}
    assert len(shares) == 4
    assert all(0 < share < 1 for share in shares.values())


def test_where_a_gpu_is_torch_and_transformers_are_enough():
    absent = "pyarrow", "pydantic", "soundfile", "torchaudio", "ray", "mlflow"
    lines = [
        "import sys",
        f"sys.modules.update(dict.fromkeys({absent}))",
        "from benchmarks.__main__ import benchmark",
        "[benchmark(name) for name in ('dkm', 'assignment', 'ssl_forward')]",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    command = [sys.executable, "-c", "\n".join(lines)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def test_operations_of_a_model_are_those_of_its_products():
    layers = torch.nn.Conv1d(1, 4, 10, 5), torch.nn.Linear(4, 8)
    model = torch.nn.Sequential(layers[0], Transposed(), layers[1])
    counted = operations_by_length(model, 100)
    for seconds in (1.0, 3.0, 8.0):
        frames = (seconds * 100 - 10) // 5 + 1
        assert counted(seconds) == pytest.approx(2 * frames * (10 * 4 + 4 * 8), rel=0.01)
    assert dense_rate(CPU, torch.float32) > 0


def test_products_are_counted_whatever_they_add_to():
    left, right = torch.zeros(2, 5), torch.zeros(5, 3)
    assert operations(lambda: torch.addmm(torch.zeros(3), left, right)) == 2 * 2 * 5 * 3
    # A GPU's kernels ask for float32 sums of float16, in a place that torch's own count does not know.
    shapes = torch.Size([2, 3]), left.shape, right.shape
    assert of_addmm(*shapes, torch.float32, out_shape=shapes[0]) == 2 * 2 * 5 * 3


class Transposed(torch.nn.Module):
    def forward(self, hidden_BCT):
        return hidden_BCT.mT[0] if hidden_BCT.ndim == 3 else hidden_BCT.mT


def test_the_loop_counts_what_the_stage_counts():
    assert record("purity")["checks"] == {"counts of the loop that are not ours": 0}


def test_searches_agree_and_find_the_texts():
    checks = record("decoding")["checks"]
    assert checks["tiny, beam 2: same texts"] == checks["tiny, beam 2: right texts"] == 1
    assert checks["tiny, beam 2: CPU seconds an utterance"] > 0


def test_a_vocoder_speaks_faster_than_time_passes():
    factors = record("vocoder")["checks"]
    assert set(factors) == {
        f"{name}: CPU seconds a second of speech" for name in ("istft", "hifigan")
    }
    assert 0 < factors["istft: CPU seconds a second of speech"] < 1


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
