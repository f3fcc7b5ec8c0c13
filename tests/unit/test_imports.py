"""What import-linter cannot see: what is loaded when a module is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A module that is None in sys.modules cannot be imported.
IMPORT_WITHOUT = """
import importlib, sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
PLANNING = [
    "pipeline.__main__",
    "pipeline.commands.plan",
    "pipeline.config",
    "pipeline.graph.graph",
    "pipeline.report",
    "tasks",
]
MODELS = [
    f"pipeline.{folder}"
    for folder in ("asr", "clustering", "features", "quantizer", "tokenizer", "training", "vocoder")
]

# What a run that has nothing to compute loads.
CACHED_RUN = ["pipeline.commands.run", "pipeline.commands.results"]

# What a stage's own process loads before its workers do the work; torch before a Ray Data job.
STARTING_WORKERS = [
    "pipeline.corpus.shards",
    "pipeline.corpus.speed",
    "pipeline.runtime.imported",
    "pipeline.runtime.shard_pool",
    "pipeline.runtime.ray_train",
    "pipeline.runtime.training",
]


@pytest.mark.parametrize(
    ("absent", "packages"),
    [
        pytest.param("torch,torchaudio,transformers,ray,mlflow", PLANNING, id="planning"),
        pytest.param("torch,ray,mlflow,matplotlib,jinja2,pandas", CACHED_RUN, id="cached run"),
        pytest.param("ray,mlflow,typer", MODELS, id="models"),
        pytest.param("torchaudio,transformers,matplotlib,mlflow", STARTING_WORKERS, id="workers"),
    ],
)
def test_imports_without(absent, packages):
    names = [name for package in packages for name in modules(package)]
    process = subprocess.run(
        [sys.executable, "-c", IMPORT_WITHOUT, absent, *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stderr


def modules(dotted: str) -> list[str]:
    """`dotted` and, if it is a package, everything in it."""
    path = ROOT / dotted.replace(".", "/")
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert files
    return [
        file.relative_to(ROOT)
        .with_suffix("")
        .as_posix()
        .replace("/", ".")
        .removesuffix(".__init__")
        for file in files
    ]
