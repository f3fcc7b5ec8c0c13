"""The Ray clusters and jobs on Kubernetes: fields that KubeRay knows, and sizes that fit."""

import shlex
from typing import Any

import pytest
import yaml
from cluster_files import (
    ROOT,
    Document,
    amount,
    constraints,
    document,
    groups,
    project,
    ray_cluster_specs,
)
from ray.scripts.scripts import start
from typer.testing import CliRunner

from pipeline.__main__ import app
from pipeline.config.files import load_all
from pipeline.runtime.environment import S3
from pipeline.runtime.package import Package

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


def group(name: str) -> Document:
    (only,) = (one for one in CLUSTER["workerGroupSpecs"] if one["groupName"] == name)
    return dict(only)


def arguments() -> list[str]:
    words = shlex.split(job()["entrypoint"])
    assert words[:3] == ["python", "-m", "pipeline"]
    return words[3:]


def resolved(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The configs of the job, with what its entry point overrides."""
    monkeypatch.chdir(ROOT)
    words = arguments()
    configs = [ROOT / word for word in words if word.endswith(".yaml")]
    overrides = [words[place + 1] for place, word in enumerate(words) if word == "--set"]
    return load_all(configs, overrides)


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


def test_who_comes_in_has_a_token():
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


def test_the_head_offers_no_cpu():
    assert CLUSTER["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def test_the_object_store_fits_into_its_volume_and_the_pod():
    for one in groups(CLUSTER):
        store = int(one["rayStartParams"]["object-store-memory"])
        volumes = {volume["name"]: volume for volume in one["template"]["spec"]["volumes"]}
        (mount,) = (m for m in container(one)["volumeMounts"] if m["mountPath"].endswith("/shm"))
        shm = volumes[mount["name"]]["emptyDir"]
        assert shm["medium"] == "Memory"
        assert store <= amount(shm["sizeLimit"])
        assert amount(shm["sizeLimit"]) < amount(container(one)["resources"]["limits"]["memory"])


def test_only_the_gpu_group_has_gpus():
    for one in groups(CLUSTER):
        gpus = container(one)["resources"]["limits"].get(GPU, "0")
        assert gpus == ("1" if one.get("groupName") == "gpu" else "0")


def test_the_entry_point_is_a_command_of_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    result = CliRunner().invoke(app, [*arguments(), "--dry-run"])
    assert result.exit_code == 0, result.output
    assert result.output.count("storage: s3://") == 2


def test_a_worker_of_the_job_fits_into_a_gpu_pod(monkeypatch):
    resources = container(group("gpu"))["resources"]
    for config in resolved(monkeypatch):
        assert config.cluster.cpus_per_worker <= amount(resources["requests"]["cpu"])
        assert config.cluster.gpus_per_worker <= amount(resources["limits"][GPU])
        pods = group("gpu")["maxReplicas"]
        assert config.cluster.extraction_workers <= pods
        assert config.cluster.training_workers <= pods


def test_the_frames_of_the_codebook_fit_into_the_heads_object_store(monkeypatch):
    store = int(CLUSTER["headGroupSpec"]["rayStartParams"]["object-store-memory"])
    for config in resolved(monkeypatch):
        assert config.codebook.sample_frames * 1024 * 2 < store  # WavLM-large, float16


def test_the_jobs_environment_is_what_submit_sends(monkeypatch):
    for name in S3:
        monkeypatch.delenv(name, raising=False)
    sent = dict(Package.of(ROOT, "s3://bucket", None).runtime_env)
    for code in ("working_dir", "excludes"):  # the image has the code
        del sent[code]
    assert yaml.safe_load(job()["runtimeEnvYAML"]) == sent


def test_a_lost_cluster_is_replaced_and_no_cluster_outlives_its_job():
    assert job()["backoffLimit"] > 0
    assert job()["shutdownAfterJobFinishes"]
