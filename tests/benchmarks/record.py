"""What a benchmark found, on what machine, as JSON and as a table to look at."""

import json
import os
import platform
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import Cost

PACKAGES = (
    "torch",
    "numpy",
    "transformers",
    "scikit-learn",
    "faiss-cpu",
    "vector-quantize-pytorch",
    "ray",
)
CPU_INFO = Path("/proc/cpuinfo")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Record:
    """One benchmark on one device.

    Attributes:
        setting: sizes and other figures that say what the work was.
        left_out: contenders that did not take part, and why.
        pairs: (contender, base) whose costs are divided.
        checks: what else was found, such as how often two contenders agree.
    """

    benchmark: str
    device: str
    size: str
    setting: dict[str, Any]
    costs: dict[str, Cost]
    left_out: dict[str, str]
    pairs: Sequence[tuple[str, str]]
    checks: dict[str, float] = field(default_factory=dict)

    @property
    def ratios(self) -> list[dict[str, Any]]:
        """Cost of the first over cost of the second of each pair of which both took part."""
        present = [pair for pair in self.pairs if set(pair) <= set(self.costs)]
        return [_ratio(pair, *(self.costs[name] for name in pair)) for pair in present]

    def as_json(self, surroundings: dict[str, Any]) -> dict[str, Any]:
        contenders = {
            name: {
                **asdict(cost),
                "median_seconds": statistics.median(cost.seconds),
                "best_seconds": min(cost.seconds),
            }
            for name, cost in self.costs.items()
        }
        return {
            "benchmark": self.benchmark,
            "device": self.device,
            "size": self.size,
            **surroundings,
            "setting": self.setting,
            "contenders": contenders,
            "ratios": self.ratios,
            "checks": self.checks,
            "left_out": self.left_out,
        }


def _ratio(pair: tuple[str, str], cost: Cost, base: Cost) -> dict[str, Any]:
    """Memory of different shares of the work is not compared."""
    ratio = {
        "of": pair[0],
        "to": pair[1],
        "median_seconds": statistics.median(cost.seconds) / statistics.median(base.seconds),
        "best_seconds": min(cost.seconds) / min(base.seconds),
    }
    if cost.share == base.share and cost.extra_bytes and base.extra_bytes:
        ratio["extra_bytes"] = cost.extra_bytes / base.extra_bytes
    return ratio


def surroundings(device: torch.device) -> dict[str, Any]:
    """The machine, the versions and the commit that figures belong to."""
    machine = {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if platform.system() == "Linux" else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {"commit": _commit(), "machine": machine, "versions": versions}


def _cpu_model() -> str:
    lines = CPU_INFO.read_text(encoding="utf-8").splitlines() if CPU_INFO.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit, with "-dirty" if tracked files differ from it; "unknown" in a bare copy."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "describe", "--always", "--dirty", "--exclude=*"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


def write(record: dict[str, Any], folder: Path) -> Path:
    """Write `<benchmark>-<device>.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record['benchmark']}-{record['device']}.json"
    path.write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
