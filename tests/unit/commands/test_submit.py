"""`submit` as a user sees it: what is sent, what is refused before that, how it ends."""

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from fake_dashboard import LOG, FakeDashboard, fake_dashboard
from typer.testing import CliRunner

pytest.importorskip("ray")

from pipeline.__main__ import app
from pipeline.runtime.environment import QUIET, WORKER_SETUP
from pipeline.runtime.job import JobServer
from pipeline.runtime.session import ClusterError
from pipeline.storage.provenance import SENT_COMMIT, own_commit

ROOT = Path(__file__).resolve().parents[3]
OWN = {"base.yaml", "data/manifest.jsonl", "configs/dkm.yaml", "configs/kmeans.yaml"}
VARIABLES = (
    *("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "MLFLOW_TRACKING_URI"),
    *("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
)


@pytest.fixture
def dashboard():
    with fake_dashboard() as dashboard:
        yield dashboard


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A folder of a user's own, with a corpus and two variants over a base."""
    folder = tmp_path / "work"
    (folder / "configs").mkdir(parents=True)
    values = {
        "storage": "s3://bucket/runs",
        "corpus": {"kind": "synthetic"},
        "ssl": {"model": "some/model", "revision": "0" * 40},
    }
    (folder / "base.yaml").write_text(yaml.safe_dump(values))
    (folder / "configs" / "dkm.yaml").write_text("extends: ../base.yaml\n")
    kmeans = "extends: ../base.yaml\nquantizer: {kind: kmeans, layer_weights: fixed}\n"
    (folder / "configs" / "kmeans.yaml").write_text(kmeans)
    (folder / "data").mkdir()
    (folder / "data" / "manifest.jsonl").write_text("")
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back, whatever becomes of it
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.chdir(folder)
    return folder


def submit(dashboard: FakeDashboard, *arguments: str):
    return CliRunner().invoke(app, ["submit", "--address", dashboard.address, *arguments])


def write(folder: Path, *names: str, text: str = "x") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def sent(dashboard: FakeDashboard) -> dict[str, int]:
    """The files of the last package, and their bytes."""
    [archive] = list(dashboard.packages.values())[-1:]
    return {one.filename: one.file_size for one in ZipFile(BytesIO(archive)).infolist()}


def sent_of_folder(dashboard: FakeDashboard) -> set[str]:
    """What was sent of the user's folder besides what every project here has."""
    return {name for name in sent(dashboard) if not name.startswith(("pipeline/", "tasks/"))} - OWN


def test_a_job_is_the_command_in_a_copy_of_the_folder(project, dashboard):
    (project / "configs" / "it's.yaml").write_text("extends: ../base.yaml\n")
    arguments = ("configs/it's.yaml", "./configs/kmeans.yaml", "--set", 'asr={dim: 64, "heads": 4}')
    result = submit(dashboard, *arguments, "--stage", "fit_codebook", "--no-follow")
    assert result.exit_code == 0, result.output
    [job] = dashboard.jobs
    assert shlex.split(job["entrypoint"]) == [
        *("python", "-m", "pipeline", "run", "configs/it's.yaml", "configs/kmeans.yaml"),
        *('--set=asr={dim: 64, "heads": 4}', "--set=cluster.address=auto", "--stage=fit_codebook"),
    ]
    assert job["submission_id"].startswith("it-s-kmeans-")
    assert re.fullmatch(r"gcs://_ray_pkg_\w+\.zip", job["runtime_env"]["working_dir"])
    assert "The job has" not in result.output


def test_the_folder_and_the_project_are_sent_without_what_no_job_reads(project, dashboard):
    write(project, "runs/old.txt", ".git/config", "a.egg-info/x", "tests/x.py", "notes/n", "data/m")
    (project / ".gitignore").write_text("notes/\n")
    result = submit(dashboard, "configs/dkm.yaml")
    assert sent_of_folder(dashboard) == {".gitignore", "data/m"}
    packages = sent(dashboard).keys()
    assert {"pipeline/__main__.py", "pipeline/audio/decode.py", "tasks/train_joint.py"} <= packages
    assert not {name for name in packages if "__pycache__" in name}
    assert f"{len(packages)} files of {project} are sent with the job, " in result.output


def test_what_is_left_out_is_named(project, dashboard):
    write(project, *(f"{number}.key" for number in range(22)), os.fsdecode(b"caf\xe9.txt"))
    result = submit(dashboard, "configs/dkm.yaml", "--send", "./1.key")
    assert result.exit_code == 0, result.exception
    assert sent_of_folder(dashboard) == {"1.key"}
    secrets, unnamed = [line for line in result.output.splitlines() if line.startswith("left out")]
    assert secrets.startswith("left out: 0.key, 10.key, 11.key, ")
    assert secrets.endswith(
        " and 1 more: they look like secrets; --send NAME sends one all the same"
    )
    assert unnamed == r"left out: caf\xe9.txt: they have names that are not UTF-8"


def test_a_config_that_looks_like_a_secret_says_how_it_is_sent(project, dashboard):
    write(project, "secrets.yaml", text="extends: base.yaml\n")
    error = submit(dashboard, "secrets.yaml").exception
    assert "looks like a secret (--send secrets.yaml sends it all the same)" in str(error)
    assert dashboard.requests == []
    assert submit(dashboard, "secrets.yaml", "--send", "secrets.yaml").exit_code == 0


def test_in_a_checkout_only_the_folder_is_sent_and_once(project, dashboard, monkeypatch):
    monkeypatch.chdir(ROOT)
    storage = ("--storage", "s3://bucket/runs", "--set", "tracking.enabled=false")
    for _ in range(2):
        result = submit(dashboard, str(ROOT / "configs/demo/kmeans.yaml"), *storage)
        assert result.exit_code == 0, result.output
    assert "run configs/demo/kmeans.yaml" in dashboard.jobs[0]["entrypoint"]
    assert {"configs/small_encoder/model.safetensors", "pipeline/__main__.py"} <= set(
        sent(dashboard)
    )
    assert [one.partition(" ")[0] for one in dashboard.requests if "packages" in one] == [
        *("GET", "PUT"),
        "GET",  # the same files again: the cluster has them
    ]


def test_variables_are_sent_and_secrets_are_not(project, dashboard, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store:9000")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "my-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "my-secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "my-token")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    result = submit(dashboard, "configs/dkm.yaml")
    assert result.exit_code == 0, result.output
    environment = dashboard.jobs[0]["runtime_env"]
    assert QUIET.items() <= environment["env_vars"].items()
    assert environment["env_vars"]["AWS_ENDPOINT_URL"] == "http://store:9000"
    assert environment["env_vars"]["MLFLOW_TRACKING_URI"] == "http://mlflow:5000"
    assert environment["worker_process_setup_hook"] == WORKER_SETUP
    sent = json.loads(environment["env_vars"][SENT_COMMIT])
    assert sent == own_commit()
    assert len(sent["commit"]) == 40
    assert "no MLflow server" not in result.output
    for secret in ("my-key", "my-secret", "my-token"):
        assert secret not in json.dumps(dashboard.jobs)
        assert secret not in result.output


@pytest.fixture
def pitfalls(project) -> Path:
    """The project, with paths beside it, ignored ones, and a file too large to send."""
    (project.parent / "outside.yaml").write_text((project / "base.yaml").read_text())
    (project.parent / "far.jsonl").write_text("")
    (project / "configs" / "escapes.yaml").write_text("extends: ../../outside.yaml\n")
    (project / "configs" / "ignored.yaml").write_text("extends: ../base.yaml\n")
    full = "extends: ../base.yaml\ntraining: {phases: [{epochs: 1, ssl: finetuned}]}\n"
    (project / "configs" / "full.yaml").write_text(full)
    own = "extends: ../base.yaml\nssl: {finetuned_by: full.yaml}\n"
    (project / "configs" / "finetuned.yaml").write_text(own)
    (project / ".rayignore").write_text("configs/ignored.yaml\nconfigs/full.yaml\n")
    (project / "runs").mkdir()
    for name in ("manifest.jsonl", "config.json", "model.safetensors"):
        (project / "runs" / name).write_text("{}" if name == "config.json" else "")
    return project


CORPUS = "corpus={kind: manifest, manifest: %s}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none.yaml",), "there is no such config file"),
        (("dkm.yaml", "--set", "asr.dimm=1"), "did you mean 'dim'?"),
        (("dkm.yaml", "--stage", "fit"), "no stage is named fit"),
        (("dkm.yaml", "--storage", "runs"), "'runs' is a relative path"),
        (("../../outside.yaml",), "outside.yaml is outside the current folder"),
        (("escapes.yaml",), "outside.yaml is outside the current folder"),
        (("ignored.yaml",), "ignored.yaml is not sent"),
        (("finetuned.yaml",), "full.yaml is not sent"),
        (("dkm.yaml", "--set", CORPUS % "../far.jsonl"), "manifest '../far.jsonl' is outside"),
        (("dkm.yaml", "--set", CORPUS % "gone.jsonl"), "there is no manifest at 'gone.jsonl'"),
        (("dkm.yaml", "--set", CORPUS % "runs/manifest.jsonl"), "jsonl' is not sent"),
        (("dkm.yaml", "--set", "ssl={model: runs}"), "ssl.model 'runs' is not sent"),
        (("dkm.yaml", "--send", "../far.jsonl"), "--send ../far.jsonl is outside"),
        (("dkm.yaml", "--send", "gone.env"), "--send gone.env is not sent"),
        (("dkm.yaml", "--set", "tracking.uri=http://me:pw@host"), "contains a user, password"),
        (("dkm.yaml", "--address", "head:8265"), "'head:8265' is not the address"),
        (("dkm.yaml", "--address", "http://me:pw@head"), "contains a user or password"),
    ],
)
def test_a_mistake_is_rejected_before_anything_is_sent(pitfalls, dashboard, arguments, message):
    result = submit(dashboard, f"configs/{arguments[0]}", *arguments[1:])
    assert message in str(result.exception)
    assert "pw" not in str(result.exception)
    assert dashboard.requests == []


def test_a_password_in_the_environment_is_not_sent(project, dashboard, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:pw@mlflow")
    error = submit(dashboard, "configs/dkm.yaml").exception
    assert "MLFLOW_TRACKING_URI contains a user, password" in str(error)
    assert "pw" not in str(error)
    assert dashboard.requests == []


def test_no_address_is_a_clear_error(project):
    error = CliRunner().invoke(app, ["submit", "configs/dkm.yaml"]).exception
    assert "no cluster is named: give --address http://head:8265" in str(error)


def test_the_address_comes_from_rays_variables_too(project, dashboard, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    error = CliRunner().invoke(app, ["submit", "configs/dkm.yaml"]).exception
    assert "'10.0.0.1:6379' is not the address of a dashboard" in str(error)
    # Ray itself lets its variables win over an address that is given.
    assert submit(dashboard, "configs/dkm.yaml").exit_code == 0
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", f"{dashboard.address}/")
    result = CliRunner().invoke(app, ["submit", "configs/dkm.yaml"])
    assert result.exit_code == 0, result.output
    assert len(dashboard.jobs) == 2


def test_absolute_paths_are_said_to_be_shared(project, dashboard, monkeypatch):
    storage = project / "outputs"
    (storage / "old").mkdir(parents=True)
    (storage / "old" / "shard").write_text("x")
    corpus = "corpus={kind: librispeech, root: /nonexistent/LibriSpeech}"
    result = submit(dashboard, "configs/dkm.yaml", "--storage", str(storage), "--set", corpus)
    assert result.exit_code == 0, result.output
    assert f"all nodes must share {storage}" in result.output
    assert "/nonexistent/LibriSpeech is not on this machine" in result.output
    assert "no MLflow server" not in result.output  # its file is in the storage
    assert sent_of_folder(dashboard) == set()


def test_a_storage_in_the_folder_is_not_sent_however_it_is_named(project, dashboard):
    write(project, "outputs/old/shard")
    result = submit(dashboard, "configs/dkm.yaml", "--storage", f"file://{project}/outputs")
    assert result.exit_code == 0, result.output
    assert f"all nodes must share {project}/outputs" in result.output
    assert sent_of_folder(dashboard) == set()


def test_metrics_that_would_be_lost_are_announced(project, dashboard, monkeypatch):
    assert "no MLflow server is named" in submit(dashboard, "configs/dkm.yaml").output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////home/me/mlflow.db")
    assert "no MLflow server is named" in submit(dashboard, "configs/dkm.yaml").output
    assert "MLFLOW_TRACKING_URI" not in dashboard.jobs[1]["runtime_env"]["env_vars"]
    tracked = ("--set", "tracking.uri=http://mlflow:5000")
    assert "no MLflow server" not in submit(dashboard, "configs/dkm.yaml", *tracked).output


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, 0, "The job has succeeded"),
        ({"status": "FAILED", "driver_exit_code": 7}, 7, "ended with exit code 7"),
        ({"status": "STOPPED"}, 1, "it was stopped"),
        (
            {"status": "FAILED", "message": "runtime_env setup failed: no [space]"},
            1,
            "runtime_env setup failed: no [space]",
        ),
    ],
)
def test_the_log_is_shown_and_the_end_is_the_jobs(project, dashboard, end, code, said):
    dashboard.end = end
    result = submit(dashboard, "configs/dkm.yaml")
    assert result.exit_code == code, result.output
    assert "".join(LOG) in result.output
    assert said in result.output


def test_ctrl_c_stops_following_alone(project, dashboard, monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(JobServer, "follow", interrupted)
    result = submit(dashboard, "configs/dkm.yaml")
    assert result.exit_code == 130
    after = result.output.partition("The job continues")[2]
    name = dashboard.jobs[0]["submission_id"]
    for command in ("logs --follow", "status", "stop"):
        assert f"RAY_API_SERVER_ADDRESS={dashboard.address} ray job {command} {name}\n" in after


def test_a_cluster_that_refuses_is_one_message(project, dashboard):
    dashboard.refusal = 403, "Forbidden: Invalid authentication token"
    error = submit(dashboard, "configs/dkm.yaml").exception
    assert isinstance(error, ClusterError)
    assert "rejects this machine (Authentication failed: Forbidden" in str(error)
    assert dashboard.jobs == []


def test_configs_are_sent_and_followed_without_torch(project, dashboard):
    code = textwrap.dedent("""
        import sys
        # A module that is None is one that cannot be found.
        sys.modules.update(dict.fromkeys(("torch", "torchaudio", "transformers", "mlflow")))
        from pipeline.__main__ import main
        main()
    """)
    process = subprocess.run(
        [sys.executable, "-c", code, "submit", "configs/dkm.yaml", "--address", dashboard.address],
        capture_output=True,
        text=True,
        check=False,
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stderr
    assert "".join(LOG) in process.stdout
    assert len(dashboard.jobs) == 1
    assert process.stderr == ""
