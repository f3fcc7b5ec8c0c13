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


def outputs(storage: str, stage: str) -> dict[str, Artifact]:
    """The outputs of a stage by split; the split is empty if there is one for all."""
    digests = {name.partition("/")[0] for name in Artifact(f"{storage}/{stage}").names()}
    found = [Artifact(f"{storage}/{stage}/{digest}") for digest in digests]
    return {output.read_json(MANIFEST)["split"]: output for output in found}


def tables(storage: str, stage: str, folder: str) -> dict:
    """The Parquet tables below a folder in all outputs of a stage."""
    found = {
        name: output.read_table(name)
        for output in outputs(storage, stage).values()
        for name in output.names(folder)
    }
    assert found
    return found


def assert_same(storage: str, expected: str) -> None:
    for stage in STAGES:
        found, wanted = outputs(storage, stage), outputs(expected, stage)
        assert found.keys() == wanted.keys()
        for split in found:
            assert_same_output(found[split], wanted[split])
    for stage, folder in (("extract_features", "shards"), ("tokenize_corpus", "tokens")):
        assert tables(storage, stage, folder) == tables(expected, stage, folder), stage


def assert_same_output(found: Artifact, expected: Artifact) -> None:
    pair = (found, expected)
    files, others = (set(each.read_json(MANIFEST)["files"]) for each in pair)
    assert files == others
    one, other = (
        {name: value for name, value in each.metrics().items() if "seconds" not in name}
        for each in pair
    )
    assert one == other, found.uri


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
    assert "0 of 7 stages to run" in planned.output
    compared = CliRunner().invoke(app, ["compare", str(config_file), *options, "--format", "json"])
    assert json.loads(compared.output)["tiny"]["test.wer"] >= 0

    trained = outputs(storage, "train_joint")[""]
    arguments = [trained.uri, "s3://bucket/corpus/test-000.flac"]
    done = CliRunner().invoke(
        app, ["tokenize", *arguments, "--output", "s3://bucket/new/tokens.parquet"]
    )
    assert done.exit_code == 0, done.output
    [row] = Artifact("s3://bucket/new").read_table("tokens.parquet").to_pylist()
    [stored] = [
        one
        for table in tables(storage, "tokenize_corpus", "tokens").values()
        for one in table.to_pylist()
        if one["utt_id"] == "test-000"
    ]
    assert row["units"] == stored["units"]
