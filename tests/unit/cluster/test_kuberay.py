"""The Ray clusters and jobs on Kubernetes: only fields that KubeRay knows, a token, no code of their own."""

import shlex

import yaml
from cluster_files import (
    ROOT,
    Document,
    constraints,
    document,
    groups,
    project,
    ray_cluster_specs,
)
from ray.scripts.scripts import start
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.runtime.environment import S3, job_environment

# The fields of ray.io/v1 that KubeRay 1.5 and later know (its API reference has them all); pod
# templates are checked as pods.
FIELDS = {
    "RayJobSpec": {
        "activeDeadlineSeconds", "backoffLimit", "clusterSelector", "deletionStrategy", "entrypoint",
        "entrypointNumCpus", "entrypointNumGpus", "entrypointResources", "jobId", "managedBy",
        "metadata", "rayClusterSpec", "runtimeEnvYAML", "shutdownAfterJobFinishes",
        "submissionMode", "submitterConfig", "submitterPodTemplate", "suspend",
        "ttlSecondsAfterFinished",
    },
    "SubmitterConfig": {"backoffLimit"},
    "RayClusterSpec": {
        "authOptions", "autoscalerOptions", "enableInTreeAutoscaling", "gcsFaultToleranceOptions",
        "headGroupSpec", "headServiceAnnotations", "managedBy", "rayVersion", "suspend",
        "workerGroupSpecs",
    },
    "AuthOptions": {"mode"},
    "AutoscalerOptions": {
        "env", "envFrom", "idleTimeoutSeconds", "image", "imagePullPolicy", "resources",
        "securityContext", "upscalingMode", "version", "volumeMounts",
    },
    "HeadGroupSpec": {
        "enableIngress", "headService", "labels", "rayStartParams", "resources", "serviceType",
        "template",
    },
    "WorkerGroupSpec": {
        "groupName", "idleTimeoutSeconds", "labels", "maxReplicas", "minReplicas", "numOfHosts",
        "rayStartParams", "replicas", "resources", "scaleStrategy", "suspend", "template",
    },
}  # fmt: skip
GPU = "nvidia.com/gpu"
CLUSTER, JOB = ray_cluster_specs()


def job() -> Document:
    return dict(document("kuberay/rayjob.yaml", "RayJob")["spec"])


def container(group: Document) -> Document:
    (only,) = group["template"]["spec"]["containers"]
    return dict(only)


def arguments() -> list[str]:
    words = shlex.split(job()["entrypoint"])
    assert words[:3] == ["python", "-m", "pipeline"]
    return words[3:]


def test_both_files_hold_the_same_cluster():
    assert CLUSTER == JOB


def test_kuberay_knows_every_field():
    found = [("RayJobSpec", job()), ("SubmitterConfig", job()["submitterConfig"])]
    for spec in (CLUSTER, JOB):
        found += [
            ("RayClusterSpec", spec),
            ("AuthOptions", spec["authOptions"]),
            ("AutoscalerOptions", spec["autoscalerOptions"]),
            ("HeadGroupSpec", spec["headGroupSpec"]),
            *(("WorkerGroupSpec", worker) for worker in spec["workerGroupSpecs"]),
        ]
    for kind, fields in found:
        assert set(fields) <= FIELDS[kind], kind


def test_every_client_needs_a_token():
    assert CLUSTER["authOptions"] == {"mode": "token"}


def test_ray_start_knows_every_parameter():
    known = {option.name.replace("_", "-") for option in start.params}
    for one in groups(CLUSTER):
        assert set(one["rayStartParams"]) <= known
        assert all(isinstance(value, str) for value in one["rayStartParams"].values())


def test_versions_are_those_of_the_project():
    assert CLUSTER["rayVersion"] == constraints()["ray"]
    images = {container(one)["image"] for one in groups(CLUSTER)}
    assert images == {f"{project()['name']}:{project()['version']}"}


def test_the_entry_point_is_a_command_of_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, [*arguments(), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.output.count("storage: s3://") == 2


def test_the_jobs_environment_is_what_submit_sends(monkeypatch):
    for name in S3:
        monkeypatch.delenv(name, raising=False)
    assert yaml.safe_load(job()["runtimeEnvYAML"]) == job_environment(None)
