"""Which modules a stage runs, and which of them say something else than before."""

import sys

import pytest

from pipeline.source_code import SourceCode

STAGE = '''
"""A stage."""
from pipeline.metrics import wer


def run(context):
    """Count."""
    from pipeline.metrics.purity import purity

    return {"n": 1.0}  # one
'''


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Write a user's stage `own_stage`, which is imported."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text: str) -> None:
        (tmp_path / "own_stage.py").write_text(text)

    write(STAGE)
    __import__("own_stage")
    yield write
    del sys.modules["own_stage"]


def test_imports_count_wherever_they_stand_and_plumbing_does_not(stage):
    found = SourceCode().of("own_stage", {})
    assert {"own_stage", "pipeline.metrics.wer", "pipeline.metrics.purity"} <= found.keys()
    plumbing = ("config", "storage", "tracking", "log", "graph", "progress", "redaction", "errors")
    assert not any(name.split(".")[1:2] == [each] for name in found for each in plumbing)


def test_what_workers_load_by_name_counts():
    found = SourceCode().of("tasks.train_joint", {})
    assert {
        "pipeline.training.loop",
        "pipeline.asr.encoder",
        "pipeline.quantizer.unit_quantizer",
    } <= found.keys()
    assert "pipeline.vocoder.training" not in found
    assert "pipeline.training.loop" not in SourceCode().of("tasks.fit_codebook", {})


def test_what_a_config_chooses_counts_where_it_is_loaded():
    chosen = {"pipeline.quantizer.unit_quantizer": "pipeline.quantizer.kinds.dkm"}
    assert "pipeline.quantizer.dkm" in SourceCode().of("tasks.train_joint", chosen)
    assert "pipeline.quantizer.dkm" not in SourceCode().of("tasks.train_joint", {})
    assert "pipeline.quantizer.dkm" not in SourceCode().of("tasks.fit_codebook", chosen)


@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("# one", "# 1", False),
        ('"""Count."""', '"""Return one, always."""', False),
        ('    """Count."""\n', "", False),
        ("\n\n\ndef", "\n\n\n\n\ndef", False),
        ('return {"n": 1.0}', 'return {\n        "n": 1.0\n    }', False),
        ("1.0", "2.0", True),
        ("import purity", "import Purity as purity", True),
    ],
)
def test_code_that_says_the_same_has_not_changed(stage, before, after, changed):
    recorded = SourceCode().of("own_stage", {})
    assert SourceCode().changed(recorded) == []
    assert before in STAGE
    stage(STAGE.replace(before, after))
    assert SourceCode().changed(recorded) == ["own_stage"] * changed


def test_a_module_that_is_gone_or_no_longer_python_has_changed(stage, tmp_path):
    recorded = {**SourceCode().of("own_stage", {}), "pipeline.no_such": ["0" * 8, "1" * 8]}
    (tmp_path / "own_stage.py").unlink()
    assert SourceCode().changed(recorded) == ["own_stage", "pipeline.no_such"]
    stage("def run(:")
    assert "own_stage" in SourceCode().changed(recorded)
