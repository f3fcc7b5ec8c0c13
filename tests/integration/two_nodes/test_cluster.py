"""A complete small run as a job on two real nodes, and a training that loses one of them."""

import json
import re

import pytest
from cluster_runs import PATIENCE_SECONDS, SECRETS, finish, losses, output
from mlflow import MlflowClient

from pipeline.storage.s3 import ObjectStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLED = "s3://bucket/killed"


@pytest.fixture(scope="module")
def killed(there, undisturbed):
    """What a training printed that lost a node, on the outputs of the undisturbed run before it.

    `test_cluster_kills` kills nodes in every stage.
    """
    store = ObjectStore()
    for stage in ("prepare_corpus", "extract_features", "fit_codebook"):
        copied = f"{KILLED}/{stage}".removeprefix("s3://")
        store.copy(copied.replace("killed", "undisturbed"), copied, recursive=True)
    there.gate.arm(r"/train_joint/.*/checkpoints/step-", passed=3)
    job = there.start(KILLED, "--set=tracking.experiment=killed", stages=("train_joint",))
    try:
        assert there.gate.reached.wait(PATIENCE_SECONDS)
        there.kill_a_node()
        there.gate.open()
        there.cluster.add_node()
        return finish(job)
    finally:
        there.gate.open()
        job.kill()


def test_a_job_runs_every_stage(undisturbed):
    assert "The job has succeeded" in undisturbed.printed
    assert undisturbed.tokens
    assert undisturbed.scores["test.wer"] >= 0


def test_the_tracker_has_its_runs_and_their_metrics(there, undisturbed):
    runs, loss_of_step = tracked(there.tracker, "cluster")
    wer = 100 * undisturbed.scores["test.wer"]
    assert runs["tiny"].data.metrics["test/WER in percent"] == pytest.approx(wer)
    assert loss_of_step == pytest.approx(undisturbed.losses)
    for run in runs.values():
        assert_no_secret(json.dumps(run.to_dictionary()))


def tracked(address, experiment):
    """An experiment's runs by name, each logged once and finished, and the training losses."""
    client = MlflowClient(address)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert len(runs) == len(found)
    assert {run.info.status for run in found} == {"FINISHED"}
    history = client.get_metric_history(runs["train_joint"].info.run_id, "train.loss")
    loss_of_step = {point.step: point.value for point in history}
    assert len(loss_of_step) == len(history)  # no step twice
    return runs, loss_of_step


def test_no_secret_leaves_the_nodes(there, undisturbed):
    assert_no_secret(undisturbed.printed)
    [job, *_] = there.cluster.ask("/api/jobs/")
    assert job["runtime_env"]["env_vars"]["AWS_ENDPOINT_URL"]
    assert_no_secret(json.dumps(job))


def assert_no_secret(text):
    assert [name for name, value in SECRETS.items() if value in text] == []


@pytest.mark.soak
def test_a_training_that_loses_a_node_ends_as_one_that_does_not(there, undisturbed, killed):
    assert "FAILED" not in killed
    assert re.search(r"prepare_corpus +tiny +done", killed), killed
    assert losses(KILLED) == undisturbed.losses
    assert tracked(there.tracker, "killed")[1] == pytest.approx(undisturbed.losses)
    name = "tokenizer/model.safetensors"
    both = [output(run, "train_joint") for run in (KILLED, "s3://bucket/undisturbed")]
    one, other = (each.filesystem.cat(each.path(name)) for each in both)
    assert one == other


@pytest.mark.soak
def test_a_lost_node_is_one_plain_line(killed):
    assert re.search(r"node-\d+ (lost; |left the cluster; running: )train_joint\[", killed), killed
    log = killed.partition("Running entrypoint")[2]
    for noise in ("Traceback", "(pid=", "(raylet", "WARNING"):
        assert noise not in log, killed
