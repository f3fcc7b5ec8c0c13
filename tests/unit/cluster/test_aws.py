"""The cluster on AWS against Ray's own schema, and with Ray's own launcher on a mocked cloud."""

import os
import stat
import subprocess

import pytest
import yaml
from cluster_files import CLUSTER, project
from jsonschema import ValidationError
from ray.autoscaler.sdk import bootstrap_config

TYPES = {"head", "cpu", "gpu"}


@pytest.fixture
def config():
    return yaml.safe_load((CLUSTER / "aws.yaml").read_text(encoding="utf-8"))


def profiles(config) -> dict[str, str]:
    """The instance profile of each type of node."""
    nodes = config["available_node_types"].items()
    return {name: node["node_config"]["IamInstanceProfile"]["Name"] for name, node in nodes}


def test_nodes_have_roles_and_no_files_from_this_machine(config):
    roles = profiles(config)
    assert roles["cpu"] == roles["gpu"] != roles["head"]
    assert config["file_mounts"] == {}


def test_image_and_token(config):
    assert config["docker"]["image"] == f"{project()['name']}:{project()['version']}"
    assert "--env RAY_AUTH_MODE=token" in config["docker"]["run_options"]
    region = config["provider"]["region"]
    assert f"--env AWS_DEFAULT_REGION={region}" in config["docker"]["run_options"]


@pytest.fixture
def cloud(monkeypatch, config):
    """EC2 and IAM in this process, with the two roles of the guide."""
    moto = pytest.importorskip("moto")
    import boto3

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        for name in set(profiles(config).values()):
            boto3.client("iam").create_instance_profile(InstanceProfileName=name)
        yield boto3.client("ec2", region_name=config["provider"]["region"])


@pytest.fixture
def ready(cloud, config, monkeypatch, tmp_path):
    """The file as Ray's launcher has checked and completed it."""
    monkeypatch.setenv("HOME", str(tmp_path))  # it keeps its SSH key there
    return bootstrap_config(config, no_config_cache=True)


def test_ray_accepts_the_file(ready):
    assert set(ready["available_node_types"]) == TYPES
    assert ready["available_node_types"]["head"]["max_workers"] == 0


def test_ray_rejects_unknown_fields(cloud, config):
    config["max_worker"] = 3
    with pytest.raises(ValidationError, match="max_worker"):
        bootstrap_config(config, no_config_cache=True)


def test_ec2_starts_every_type_of_node_and_workers_are_spot_instances(cloud, ready):
    """Ray passes a type's node_config to EC2 as it is, except for subnets of its choice."""
    for name, node in ready["available_node_types"].items():
        settings = {**node["node_config"], "SubnetId": node["node_config"]["SubnetIds"][0]}
        del settings["SubnetIds"]
        [started] = cloud.run_instances(MinCount=1, MaxCount=1, **settings)["Instances"]
        assert started["InstanceType"] == node["node_config"]["InstanceType"]
        assert (started.get("InstanceLifecycle") == "spot") == (name != "head")


STUBS = {
    "python": 'test "$1 $2" = "cluster/node_environment.py /dkm-pipeline" || exit 9; {answer}',
    "ray": 'echo "$RAY_AUTH_TOKEN ray $*"',
}


def start(config, role, tmp_path, answer):
    """What a node's last start command does, where `python` gives `answer` and `ray` tells."""
    for name, text in STUBS.items():
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{text.format(answer=answer)}\n", encoding="utf-8")
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
    command = config[f"{role}_start_ray_commands"][-1]
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_HEAD_IP": "10.0.0.1"}
    return subprocess.run(  # noqa: S602 - as the launcher does
        command, shell=True, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_node_starts_with_the_token(config, role, tmp_path):
    ended = start(config, role, tmp_path, "echo \"export RAY_AUTH_TOKEN='a b'\"")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("a b ray start ")
    assert ("--head" if role == "head" else "--address=10.0.0.1:6379") in ended.stdout


@pytest.mark.parametrize("role", ["head", "worker"])
def test_a_node_without_its_settings_does_not_start(config, role, tmp_path):
    ended = start(config, role, tmp_path, "exit 1")
    assert ended.returncode != 0
    assert ended.stdout == ""


def test_ray_start_knows_the_options(config):
    from ray.scripts.scripts import start as ray_start

    known = {name for option in ray_start.params for name in option.opts}
    for role in ("head", "worker"):
        words = config[f"{role}_start_ray_commands"][-1].split("ray start ")[1].split()
        assert {word.partition("=")[0] for word in words} <= known
