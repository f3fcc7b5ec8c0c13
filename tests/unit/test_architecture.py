"""Imports run one way, Ray stays in its folder, and planning stays light."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# A module may import from its own tier's part and from every tier above.
TIERS = (
    {
        "config",
        "errors",
        "schema",
        "artifacts",
        "object_store",
        "redaction",
        "tracking",
        "stage",
    },
    {"data", "metrics"},
    {"features"},
    {"quantizer", "asr", "vocoder"},
    {"training"},
    {"runtime"},
)
# Files beside the tiers, and the tier from which they may be imported.
LEAF_PARTS = {"report": 0, "plots": 0, "flow": 0, "space": 0, "logged_tokenizer": 4}
MODELS = ("features", "quantizer", "asr", "vocoder", "training")
HEAVY = {"torch", "torchaudio", "ray", "mlflow", "transformers"}


def sources(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path, *, top_level: bool = False) -> Iterator[str]:
    """Dotted names that a file imports; with `top_level`, only when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        if node in skipped:
            skipped.update(ast.iter_child_nodes(node))
            continue
        if top_level and (_is_function(node) or _is_type_checking(node)):
            skipped.update(ast.iter_child_nodes(node))
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_function(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def part(dotted: str) -> str | None:
    """`quantizer` for `pipeline.quantizer.dkm`; None outside the library."""
    names = dotted.split(".")
    return names[1] if names[0] == "pipeline" and len(names) > 1 else None


def tier(name: str) -> int | None:
    for number, parts in enumerate(TIERS):
        if name in parts:
            return number
    return LEAF_PARTS.get(name)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", sources("pipeline"), ids=name_of)
def test_imports_run_one_way(path):
    own = path.relative_to(ROOT / "pipeline").parts[0].removesuffix(".py")
    if own in {"__init__", "__main__", "commands"}:
        return  # the command line stands above all tiers
    if own == "runtime" and path.stem == "graph":
        allowed = len(TIERS)
    else:
        assert tier(own) is not None, f"pipeline/{own} has no tier: give it one above"
        allowed = tier(own)
    for dotted in imports(path):
        other = part(dotted)
        if other is None or other == own:
            assert not dotted.startswith("tasks"), f"{path.name} imports {dotted}"
            continue
        assert other not in {"commands", "__main__"}, f"{path.name} imports {dotted}"
        other_tier = tier(other)
        assert other_tier is not None, f"pipeline/{other} has no tier"
        peers = other_tier == allowed == 0 or allowed == len(TIERS)
        assert other_tier < allowed or peers, (
            f"pipeline/{own} (tier {allowed}) imports {dotted} (tier {other_tier})"
        )


@pytest.mark.parametrize("path", sources("pipeline") + sources("tasks"), ids=name_of)
def test_only_runtime_imports_ray(path):
    if path.is_relative_to(ROOT / "pipeline" / "runtime"):
        return
    found = [dotted for dotted in imports(path) if dotted.split(".")[0] == "ray"]
    assert not found


@pytest.mark.parametrize("path", sources("tasks"), ids=name_of)
def test_tasks_import_nothing_heavy_at_their_top(path):
    found = {dotted.split(".")[0] for dotted in imports(path, top_level=True)}
    assert not found & HEAVY


@pytest.mark.parametrize("path", [*sources("pipeline"), *sources("tasks")], ids=name_of)
def test_no_pickles_are_written_or_read(path):
    source = path.read_text(encoding="utf-8")
    assert "torch.save" not in source
    assert "torch.load(" not in source
    assert not {"pickle", "joblib", "dill", "cloudpickle"} & {
        dotted.split(".")[0] for dotted in imports(path)
    }


def check_imports(code: str, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.strip()


BLOCKED = """
import importlib, sys

# A module that is None is one that cannot be found.
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))
for name in sys.argv[2:]:
    importlib.import_module(name)
"""


def modules(*parts: str) -> list[str]:
    paths = [path for name in parts for path in sources(f"pipeline/{name}")]
    return [name_of(path).removesuffix(".py").replace("/", ".") for path in paths]


def test_models_import_without_ray_and_mlflow():
    names = [name for name in modules(*MODELS) if not name.endswith("__init__")]
    assert len(names) > 10
    check_imports(BLOCKED, "ray,mlflow,typer", *names)


def test_flow_and_stages_and_plan_import_without_torch_and_ray():
    tasks = [f"tasks.{path.stem}" for path in sources("tasks") if path.stem != "__init__"]
    names = ["pipeline.graph.graph", "pipeline.commands.plan", "pipeline.__main__", *tasks]
    check_imports(BLOCKED, ",".join(HEAVY), *names)
