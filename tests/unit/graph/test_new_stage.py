"""The stage of docs/new_stage.md is planned and run as it stands there."""

import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support import save_tiny_ssl, tiny_config, write_tone_manifest

from pipeline.commands.compare import compared
from pipeline.graph.graph import build
from pipeline.metrics.comparison import as_markdown
from pipeline.progress import Progress
from pipeline.runtime.node_run import Start, run_node
from pipeline.storage import table_schemas
from pipeline.tracking import StageRun

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

    reports = []
    outcome = run_node(node, StageRun.disabled(), Progress(reports.append), Start())

    assert (outcome.status, outcome.error) == ("done", "")
    assert outcome.scores == {"unit_pairs": 3.0}
    pairs = node.artifact.read_table("pairs.parquet").to_pylist()
    assert {(row["first"], row["second"]): row["count"] for row in pairs} == {
        (1, 2): 2,
        (2, 1): 2,
        (1, 3): 1,
    }
    assert reports[-1].done == reports[-1].total == 2
    assert node not in build([config], ["count_pairs"]).pending()

    found = compared(build([config]), [config])
    assert found.own == ("unit_pairs",)
    assert "| unit pairs |  | 3 |" in as_markdown(found)


def test_the_page_names_every_field_of_a_stage(config):
    stage = next(n.stage for n in build([config]).nodes if n.stage.name == "count_pairs")
    page = PAGE.read_text()
    assert [name for name in vars(stage) if f"`{name}`" not in page] == []
