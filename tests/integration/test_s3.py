"""A run on s3:// equals one in local folders, although the server fails and cuts connections."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from faulty_s3 import FAULTS, FaultyS3, local_s3, seeded, use
from support import SMALL_ASR, save_tiny_ssl, write_tone_manifest
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.storage.artifacts import MANIFEST, Artifact
from pipeline.storage.s3 import ObjectStore

# Soak: two complete runs take minutes.
pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
STAGES = (
    "prepare_corpus",
    "extract_features",
    "fit_codebook",
    "train_joint",
    "tokenize_corpus",
    "evaluate_asr",
    "phone_purity",
)


# One Ray for all runs: a small run spends most of its time starting processes.
RUNS = """
    import sys
    import torch
    from pipeline.__main__ import app
    from pipeline.config import Cluster
    from pipeline.runtime.session import ray_session

    with ray_session(Cluster()):
        for place in sys.argv[2:]:
            app(
                ["run", sys.argv[1], "--storage", f"{place}/runs"]
                + ["--set", f"corpus.manifest={place}/corpus/manifest.jsonl"]
                + ["--stage", "evaluate_asr", "--stage", "phone_purity"],
                standalone_mode=False,
            )
"""


@pytest.fixture(scope="module")
def server():
    with local_s3() as url:
        yield url


@pytest.fixture(scope="module")
def places(tmp_path_factory, server):
    """The same manifest and audio in a local folder and in the bucket."""
    place = tmp_path_factory.mktemp("place")
    folder = write_tone_manifest(place / "corpus", {"train": 12, "valid": 4, "test": 4}).parent
    ObjectStore().put(f"{folder}/", "bucket/corpus/", recursive=True)
    return {"local": str(place), "s3": "s3://bucket"}


@pytest.fixture(scope="module")
def config_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("s3")
    config = {
        "variant": "tiny",
        "corpus": {"kind": "manifest", "manifest": "to be set"},
        "ssl": {"model": str(save_tiny_ssl(folder / "ssl"))},
        "features": {"shard_utterances": 4},
        "codebook": {"num_units": 8},
        "asr": SMALL_ASR,
        "training": {
            "phases": [{"epochs": 1}, {"epochs": 1, "ssl": "finetuned"}],
            "batch_seconds": 2.5,
            "checkpoint_steps": 4,
            "log_steps": 1,
        },
        "tracking": {"enabled": False},
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def faults(config_file, places, server):
    """Run in both places; the faults that the run on the bucket met."""
    with (
        FaultyS3(server, seeded(0.1, seed=1)) as proxy,
        pytest.MonkeyPatch.context() as patch,
    ):
        use(patch, proxy.url)
        command = [sys.executable, "-c", textwrap.dedent(RUNS), str(config_file), *places.values()]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ObjectStore.clear_instance_cache()
    assert done.returncode == 0, done.stdout + done.stderr
    return proxy.faults


def output(storage: str, stage: str) -> Artifact:
    """The one output of a stage."""
    names = Artifact(f"{storage}/{stage}").names()
    [digest] = {name.partition("/")[0] for name in names}
    return Artifact(f"{storage}/{stage}/{digest}")


def tables(found: Artifact, folder: str) -> dict:
    """The Parquet tables below a folder."""
    names = [name for name in found.names(folder) if name.endswith(".parquet")]
    assert names
    return {name: found.read_table(name) for name in names}


def assert_same(storage: str, expected: str) -> None:
    for stage in STAGES:
        one, other = output(storage, stage), output(expected, stage)
        assert set(one.read_json(MANIFEST)["files"]) == set(other.read_json(MANIFEST)["files"])
        scores = [
            {name: value for name, value in found.metrics().items() if "seconds" not in name}
            for found in (one, other)
        ]
        assert scores[0] == scores[1], stage
    for stage, folder in (("extract_features", "shards"), ("tokenize_corpus", "tokens")):
        found = [tables(output(place, stage), folder) for place in (storage, expected)]
        assert found[0] == found[1], stage


def test_a_run_on_s3_ends_as_one_in_local_folders_whatever_went_wrong(places, faults):
    assert all(faults[fault] for fault in FAULTS), faults
    assert_same(f"{places['s3']}/runs", f"{places['local']}/runs")


def test_commands_take_s3_addresses(config_file, places, faults):
    storage = f"{places['s3']}/runs"
    options = ["--storage", storage]
    options += ["--set", f"corpus.manifest={places['s3']}/corpus/manifest.jsonl"]
    asked = ["plan", str(config_file), "--stage", "evaluate_asr", *options]
    planned = CliRunner().invoke(app, asked)
    assert planned.exit_code == 0, planned.output
    assert "0 of 6 stages to run" in planned.output
    compared = CliRunner().invoke(app, ["compare", str(config_file), *options, "--format", "json"])
    assert json.loads(compared.output)["tiny"]["test.wer"] >= 0

    trained = output(storage, "train_joint")
    arguments = [trained.uri, "s3://bucket/corpus/test-000.flac"]
    done = CliRunner().invoke(
        app, ["tokenize", *arguments, "--output", "s3://bucket/new/tokens.parquet"]
    )
    assert done.exit_code == 0, done.output
    [row] = Artifact("s3://bucket/new").read_table("tokens.parquet").to_pylist()
    [stored] = [
        one
        for table in tables(output(storage, "tokenize_corpus"), "tokens").values()
        for one in table.to_pylist()
        if one["utt_id"] == "test-000"
    ]
    assert row["units"] == stored["units"]
