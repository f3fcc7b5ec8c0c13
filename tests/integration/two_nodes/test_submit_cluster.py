"""`submit` against a real Ray with a dashboard and a token."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from cluster_runs import ROOT, SECRETS
from ray_nodes import RayNodes

from pipeline.storage.artifacts import Artifact

pytestmark = pytest.mark.slow

TOY = """
    import os
    from pathlib import Path

    import ray

    from pipeline.graph.stage import Stage

    @ray.remote
    def look():
        import tasks.train_joint  # travels as a package
        import toy_library  # travels with the folder
        names = ("RAY_CHDIR_TO_TRIAL_DIR", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY")
        return {
            "note": Path("notes/note.txt").read_text(),
            "library": toy_library.VALUE,
            "variables": {name: os.environ.get(name) for name in names},
        }

    def run(context):
        context.output.write_json("seen.json", ray.get(look.remote()))
        return {}

    STAGE = Stage("toy", 1, lambda config: {}, run, cpus=0)
"""


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "work"
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "note.txt").write_text("from the folder")
    (folder / "toy.py").write_text(textwrap.dedent(TOY))
    (folder / "toy_library.py").write_text("VALUE = 7\n")
    values = {
        "storage": str(tmp_path / "storage"),
        "corpus": {"kind": "synthetic"},
        "ssl": {"model": "some/model", "revision": "0" * 40},
        "tracking": {"enabled": False},
        "extra_stages": ["toy"],
    }
    (folder / "variant.yaml").write_text(yaml.safe_dump(values))
    return folder


def submit(folder: Path, cluster: RayNodes, *arguments: str, **variables: str):
    """Run `submit` in an environment that names only this cluster; returns the process and its output."""
    inherited = {name: one for name, one in os.environ.items() if not name.startswith("RAY_")}
    given = ("variant.yaml", "--stage", "toy", "--address", cluster.job_address, *arguments)
    return subprocess.run(
        [sys.executable, "-m", "pipeline", "submit", *given],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), **variables},
    )


def token(cluster: RayNodes) -> dict[str, str]:
    return {name: cluster.environment[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")}


def test_a_run_finds_its_code_its_files_and_its_variables(there, project):
    result = submit(
        project,
        there.cluster,
        **token(there.cluster),
        AWS_ENDPOINT_URL="http://store:9000",
        AWS_SECRET_ACCESS_KEY="my-secret",  # noqa: S106
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "toy[variant] done" in result.stdout
    assert "The job has succeeded" in result.stdout
    assert result.stderr == ""
    [output] = (project.parent / "storage" / "toy").iterdir()
    assert Artifact(str(output)).is_complete()
    assert json.loads((output / "seen.json").read_text()) == {
        "note": "from the folder",
        "library": 7,
        "variables": {
            "RAY_CHDIR_TO_TRIAL_DIR": "0",
            "AWS_ENDPOINT_URL": "http://store:9000",
            "AWS_SECRET_ACCESS_KEY": SECRETS["AWS_SECRET_ACCESS_KEY"],  # the node's own
        },
    }


def test_a_job_that_fails_fails_the_command(there, project):
    """The sent config names a folder that no node has."""
    missing = ("--set", "corpus={kind: librispeech, root: /nonexistent/LibriSpeech}")
    more = ("--stage", "prepare_corpus", *missing)
    result = submit(project, there.cluster, *more, **token(there.cluster))
    assert result.returncode == 1
    assert "there is no folder '/nonexistent/LibriSpeech'" in result.stdout
    assert "its command ended with exit code 1" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "Unauthorized"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "another"}, "Forbidden"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/none"}, "/none"),
    ],
)
def test_without_the_token_nothing_is_sent(there, project, variables, message):
    result = submit(project, there.cluster, **variables)
    assert result.returncode == 1
    assert f"{there.cluster.job_address} rejects this machine" in result.stderr
    assert message in result.stderr
    assert ": set RAY_AUTH_MODE=token" in result.stderr
    assert "Traceback" not in result.stderr
