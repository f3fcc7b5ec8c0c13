"""Tokens that others made, through the whole graph on Ray: prepared, trained on, evaluated."""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from support import SMALL_ASR
from token_corpus import UNITS_PER_SECOND, corpus_of, tokens_table

from pipeline.commands.report import report
from pipeline.commands.run_display import RunDisplay
from pipeline.config import Config
from pipeline.graph.graph import build
from pipeline.runtime import scheduler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("local_ray")]


@pytest.fixture
def config(tmp_path):
    tables = [
        tokens_table(spoken).append_column("text", [[each.text for each, _ in spoken]])
        for spoken in corpus_of().values()
    ]
    pq.write_table(pa.concat_tables(tables), tmp_path / "theirs.parquet")
    return Config.model_validate(
        {
            "variant": "theirs",
            "storage": str(tmp_path / "runs"),
            "corpus": {
                "kind": "tokens",
                "tokens": str(tmp_path / "theirs.parquet"),
                "units_per_second": UNITS_PER_SECOND,
            },
            "training": {"batch_seconds": 10},
            "token_asr": {
                "subwords": {"vocabulary_size": 14},
                "asr": SMALL_ASR,
                "phases": [{"epochs": 2, "warmup_steps": 2}],
            },
            "cluster": {"training_workers": 2},
            "tracking": {"enabled": False},
        }
    )


def test_two_workers_train_from_tokens_alone_and_the_test_split_is_scored(config):
    with RunDisplay(Console(file=io.StringIO())) as display:
        outcome = scheduler.execute(lambda: build([config]), display)
    assert not outcome.failed
    [member] = build([config]).members
    assert list(member.nodes) == ["prepare_corpus", "train_token_asr", "evaluate_asr/test"]
    assert all(node.artifact.is_complete() for node in member.nodes.values())
    assert member.nodes["train_token_asr"].artifact.metrics()["steps"] > 0
    assert 0 < member.nodes["evaluate_asr/test"].artifact.metrics()["test.wer"] <= 1
    report([config], None, Console(file=io.StringIO()))
    page = Path(config.storage, "report.html").read_text(encoding="utf-8")
    for shown in ("<h3>train_token_asr</h3>", "codebook usage, test", "recognised, "):
        assert shown in page
    assert "<audio" not in page
