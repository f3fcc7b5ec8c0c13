import pytest

pytest.importorskip("ray")

from pipeline.runtime import session


def test_workers_of_a_cluster_reach_the_same_s3_and_no_files_of_this_machine(monkeypatch):
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    given = {
        "AWS_ENDPOINT_URL": "http://store:9000",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    for name, value in {**given, "AWS_PROFILE": "mine"}.items():
        monkeypatch.setenv(name, value)
    variables = session._runtime_env()["env_vars"]
    assert given.items() <= variables.items()
    assert "AWS_PROFILE" not in variables
    assert "AWS_SESSION_TOKEN" not in variables
