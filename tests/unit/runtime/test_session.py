import os
import socket
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("ray")

from pipeline.config import Cluster
from pipeline.runtime import session


def test_workers_of_a_cluster_reach_the_same_s3_with_their_own_credentials(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    given = {"AWS_ENDPOINT_URL": "http://store:9000", "AWS_MAX_ATTEMPTS": "5"}
    kept = dict.fromkeys(
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"), "mine"
    )
    for name, value in {**given, **kept}.items():
        monkeypatch.setenv(name, value)
    variables = session._runtime_env()["env_vars"]
    assert given.items() <= variables.items()
    assert not kept.keys() & variables.keys()


def test_a_job_that_brings_its_environment_gets_no_other(monkeypatch):
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert session._runtime_env() == {}


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("nowhere", "'nowhere' is not the address of a Ray cluster"),
        ("http://127.0.0.1:8265", r"a dashboard's http://… takes jobs"),
        ("127.0.0.1:1", r"no Ray cluster answers at 127\.0\.0\.1:1 .*check cluster\.address"),
        ("auto", r"no Ray cluster answers at 127\.0\.0\.1:2 "),
    ],
)
def test_a_missing_cluster_is_reported_at_once(monkeypatch, address, message):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    # The integration tests' Ray may still stand in this process.
    monkeypatch.setattr(session, "_is_running", lambda: False)
    with (
        pytest.raises(session.ClusterError, match=message),
        session.ray_session(Cluster(address=address)),
    ):
        pass


def test_joining_without_the_token_is_one_message(tmp_path):
    code = textwrap.dedent("""
        import sys
        from pipeline.config import Cluster
        from pipeline.runtime.session import ClusterError, ray_session
        try:
            with ray_session(Cluster(address=sys.argv[1])):
                pass
        except ClusterError as error:
            print(error)
    """)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"127.0.0.1:{mute.getsockname()[1]}"
        process = subprocess.run(
            [sys.executable, "-c", code, address],
            capture_output=True,
            text=True,
            check=False,
            env={**environment, "RAY_AUTH_MODE": "token", "HOME": str(tmp_path)},
        )
    expected = f"the Ray cluster at {address} rejects this process (Token authentication is"
    assert process.stdout.startswith(expected), process.stderr
    assert "set RAY_AUTH_MODE=token" in process.stdout


@pytest.mark.parametrize(
    ("num_gpus", "reserved", "said"),
    [(0, 0, ""), (2, 0.5, ""), (1, 0, "Ray has 1 GPU, and"), (8, 0, "Ray has 8 GPUs, and")],
)
def test_gpus_that_nothing_will_use_are_named(num_gpus, reserved, said):
    remark = session._idle_gpus(Cluster(gpus_per_worker=reserved), num_gpus)
    assert remark.startswith(said)
    assert bool(remark) == bool(said)
