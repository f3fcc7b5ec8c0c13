"""docs/new_adapter.md works as it stands: its table, its adapter and its config."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio.decode import write_audio
from pipeline.audio.utterance import from_table
from pipeline.config.files import load
from pipeline.graph.sources import Fingerprints
from pipeline.graph.stage import StageContext
from pipeline.storage.artifacts import Artifact
from tasks.prepare_corpus import STAGE

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "new_adapter.md").read_text(encoding="utf-8")


def block(language):
    (content,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return content


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The files of the page, and noise for the audio that its table names."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "csv_corpus.py").write_text(block("python"))
    (tmp_path / "mine.yaml").write_text(block("yaml"))
    (tmp_path / "data" / "wav").mkdir(parents=True)
    (tmp_path / "data" / "corpus.csv").write_text(block("csv"))
    for name in re.findall(r"wav/\w+\.wav", block("csv")):
        noise = np.random.default_rng(0).normal(0, 0.1, 16000)
        write_audio(tmp_path / "data" / name, noise, 16000, "WAV")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("my_package", "my_package.csv_corpus"):
        sys.modules.pop(name, None)


def fingerprint(config):
    return Fingerprints().of(STAGE.sources(config)["files"])


def test_the_table_becomes_a_corpus_and_a_reject(project):
    config, output = load("mine.yaml"), Artifact(str(project / "output"))
    before = fingerprint(config)
    STAGE.run(StageContext(config, output, {}, None))
    utterances = from_table(output.read_table("corpus.parquet"))
    assert [(row.utt_id, row.split, row.speaker, row.text) for row in utterances] == [
        ("c1", "test", "cem", "one one"),
        ("a1", "train", "ann", "six four"),
        ("b1", "valid", "bob", "two nine"),
    ]
    assert {row.duration for row in utterances} == {1.0}
    (reject,) = output.read_table("rejects.parquet").to_pylist()
    assert (reject["utt_id"], reject["reason"]) == ("c2", "empty text")
    with (project / "data" / "corpus.csv").open("a") as file:
        file.write("wav/c3.wav\n")
    assert fingerprint(config) != before


def test_the_command_plans_the_config(project):
    """As a user calls it: `dkm` finds the module in the current folder."""
    process = subprocess.run(
        [Path(sys.executable).parent / "dkm", "plan", "mine.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert "prepare_corpus" in process.stdout
