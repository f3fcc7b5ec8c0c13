"""A node's environment from a mocked Parameter Store."""

import importlib.util
import subprocess

import boto3
import pytest
from cluster_files import CLUSTER

moto = pytest.importorskip("moto")

FOLDER = "/dkm-pipeline"
FOUND = "0123456789abcdef"


@pytest.fixture
def store(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        client = boto3.client("ssm")

        def put(**values: str) -> None:
            for name, value in values.items():
                client.put_parameter(Name=f"{FOLDER}/{name}", Value=value, Type="SecureString")

        yield put


def script():
    spec = importlib.util.spec_from_file_location(
        "node_environment", CLUSTER / "node_environment.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_parameter_becomes_a_variable(store, capsys):
    others = {f"SETTING_{number}": str(number) for number in range(12)}  # more than one page
    store(RAY_AUTH_TOKEN=f"{FOUND}\n", MLFLOW_TRACKING_URI="it's $HOME", **others)
    script().main(FOLDER)
    shown = subprocess.run(
        ["/bin/bash", "-c", f"{capsys.readouterr().out}\nenv"],
        env={},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert f"RAY_AUTH_TOKEN={FOUND}" in shown
    assert "MLFLOW_TRACKING_URI=it's $HOME" in shown
    assert {f"{name}={value}" for name, value in others.items()} <= set(shown)


def test_without_a_token_there_is_no_node(store):
    store(MLFLOW_TRACKING_URI="x")
    with pytest.raises(SystemExit, match="contains no RAY_AUTH_TOKEN"):
        script().main(FOLDER)


def test_no_name_runs_in_the_shell(store, capsys):
    store(RAY_AUTH_TOKEN=FOUND, **{"a.b": "x"})
    with pytest.raises(SystemExit, match=r"/dkm-pipeline/a\.b is not the name of a variable"):
        script().main(FOLDER)
