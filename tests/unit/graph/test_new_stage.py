"""The stage of docs/new_stage.md is planned and run as it stands there."""

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from support import save_tiny_ssl, tiny_config, write_tone_manifest

from pipeline.commands import plan as plan_module
from pipeline.commands.compare import compared
from pipeline.commands.plan import plan
from pipeline.graph.graph import build
from pipeline.graph.stage_code import CODE, code_of
from pipeline.log.read_log import LogReader
from pipeline.metrics.comparison import as_markdown
from pipeline.runtime.node_run import Start, run_node
from pipeline.source_code import SourceCode
from pipeline.storage import table_schemas
from pipeline.storage.artifacts import MANIFEST

PAGE = Path(__file__).resolve().parents[3] / "docs" / "new_stage.md"
UNITS = {"a": [1, 1, 2, 1, 2], "b": [2, 1, 3]}


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config that names the page's module, which is the one file in the current folder."""
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "count_pairs.py").write_text(code)
    monkeypatch.syspath_prepend(folder)
    manifest = write_tone_manifest(tmp_path / "audio", {"train": 1, "valid": 1, "test": 1})
    yield tiny_config(
        save_tiny_ssl(tmp_path / "ssl"),
        corpus={"manifest": str(manifest)},
        storage=str(tmp_path / "runs"),
        extra_stages=["count_pairs"],
    )
    sys.modules.pop("count_pairs", None)


def test_the_stage_of_the_page_runs_and_is_complete_afterwards(config):
    nodes = {node.name: node for node in build([config], ["count_pairs"]).nodes}
    node = nodes["count_pairs"]
    assert node in build([config], ["count_pairs"]).pending()
    rows = [
        {"utt_id": utt_id, "split": "train", "units": np.array(units), "num_frames": len(units)}
        for utt_id, units in UNITS.items()
    ]
    tokens = pa.Table.from_pylist(rows, schema=table_schemas.TOKENS)
    nodes["tokenize_corpus/train"].artifact.write_table("tokens/train-00000.parquet", tokens)

    start = Start(provenance={CODE: code_of(node, SourceCode())})
    outcome = run_node(node, start)

    assert (outcome.status, outcome.error) == ("done", "")
    assert outcome.scores == {"unit_pairs": 3.0}
    pairs = node.artifact.read_table("pairs.parquet").to_pylist()
    assert {(row["first"], row["second"]): row["count"] for row in pairs} == {
        (1, 2): 2,
        (2, 1): 2,
        (1, 3): 1,
    }
    reports = [each["report"] for each in LogReader(node.artifact).new() if "report" in each]
    assert reports[-1]["done"] == reports[-1]["total"] == 2
    assert node not in build([config], ["count_pairs"]).pending()

    found = compared(build([config]), [config])
    assert found.own == ("unit_pairs",)
    assert "| unit pairs |  | 3 |" in as_markdown(found)


def planned(config) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        plan([config], ["count_pairs"], console)
    return captured.get()


def test_a_plan_names_the_stage_if_its_code_has_changed_and_its_version_has_not(config):
    node = next(n for n in build([config], ["count_pairs"]).nodes if n.name == "count_pairs")
    node.artifact.write_json(MANIFEST, {"seconds": 1.0, CODE: code_of(node, SourceCode())})
    assert plan_module.CODE_CHANGED not in planned(config)
    page = Path(sys.modules["count_pairs"].__file__)
    page.write_text(page.read_text().replace("return the scores.", "and return the scores."))
    assert plan_module.CODE_CHANGED not in planned(config)
    page.write_text(page.read_text().replace("NUM_PAIRS = 100", "NUM_PAIRS = 50"))
    said = planned(config)
    assert f"{plan_module.CODE_CHANGED}\n  count_pairs: count_pairs.py\n" in said


def test_the_page_names_every_field_of_a_stage(config):
    stage = next(n.stage for n in build([config]).nodes if n.stage.name == "count_pairs")
    page = PAGE.read_text()
    assert [name for name in vars(stage) if f"`{name}`" not in page] == []
