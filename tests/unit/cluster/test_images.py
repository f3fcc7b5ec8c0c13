"""The images: pinned versions, no secrets, and the programs that the manifests start."""

import configparser
import re
import shlex
import subprocess
import sys
from importlib.metadata import distribution
from importlib.resources import files

import pytest
from cluster_files import CLUSTER, ROOT, constraints, document, project
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCKERFILES = {"ray": CLUSTER / "Dockerfile", "mlflow": CLUSTER / "mlflow" / "Dockerfile"}
# Keys of a known form, users and passwords in addresses, and values of variables with secret names;
# what a shell inserts ("$…") is not a secret.
LITERALS = (
    re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN|(?<![\w/])(?:sk|ghp|hf|glpat)[-_]\w{16,}"),
    re.compile(r"://[^/@\s]+@"),
    re.compile(r"(?:PASSWORD|TOKEN|SECRET|ACCESS_KEY)[A-Z_]*[=:]\s*(?![\s\"']*\$)\S"),
)


def instructions(name: str) -> list[tuple[str, str]]:
    """(instruction, argument) line by line, continued lines joined, without comments."""
    text = DOCKERFILES[name].read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word, rest)
        for word, _, rest in (line.partition(" ") for line in joined.splitlines())
        if word
    ]


def installed(name: str) -> list[list[str]]:
    """The words of every `pip install` that downloads packages."""
    runs = [argument for word, argument in instructions(name) if word == "RUN"]
    commands = [command.strip() for run in runs for command in run.split("&&")]
    return [
        shlex.split(command)
        for command in commands
        if command.startswith("pip install") and "--no-deps" not in command
    ]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_python_is_the_one_the_project_is_tested_with(name):
    (base,) = [argument for word, argument in instructions(name) if word == "FROM"]
    assert base.startswith("python:{}.{}-slim".format(*sys.version_info))


@pytest.mark.parametrize("name", DOCKERFILES)
def test_every_package_has_its_version(name):
    (words,) = installed(name)
    assert "--constraint" in words
    index = words.index("--constraint")
    given = {"pip", "install", "--no-cache-dir", "--requirement", words[index + 1]}
    named = [word for word in words if not word.startswith("--") and word not in given]
    for word in named:
        if not word.startswith("/"):
            assert re.match(r"[\w-]+", word)[0].lower() in constraints(), word


def test_the_image_of_ray_has_the_projects_dependencies():
    (code,) = re.findall(r'python -c "(.+?)" ', DOCKERFILES["ray"].read_text(encoding="utf-8"))
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split("\n")[:-1] == project()["dependencies"]


def needed(requirements: list[str]) -> dict[str, str]:
    """Package -> version of what is installed here for these requirements, and for theirs."""
    found: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    waiting = [Requirement(one) for one in requirements]
    while waiting:
        one = waiting.pop()
        for extra in ("", *one.extras):
            if (one.name, extra) in done:
                continue
            done.add((one.name, extra))
            package = distribution(one.name)
            found[canonicalize_name(one.name)] = package.version
            further = [Requirement(line) for line in package.requires or ()]
            waiting += [
                r for r in further if r.marker is None or r.marker.evaluate({"extra": extra})
            ]
    return found


def test_every_package_in_the_image_of_ray_has_its_version():
    pinned = {canonicalize_name(name): version for name, version in constraints().items()}
    found = needed([*project()["dependencies"], "boto3"])
    del found["setuptools"]  # of the base image
    assert found == {name: pinned.get(name) for name in found}


def test_what_mlflow_needs_has_a_version():
    (words,) = installed("mlflow")
    assert {"mlflow[auth]", "psycopg2-binary", "boto3"} <= set(words)
    assert "flask-wtf" in constraints()


@pytest.mark.parametrize("name", DOCKERFILES)
def test_nobody_is_root(name):
    users = [argument for word, argument in instructions(name) if word == "USER"]
    assert users
    assert users[-1] not in ("root", "0")


def test_what_is_copied_exists_and_is_not_ignored():
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines  # everything else is ignored
    included = {line[1:] for line in lines if line.startswith("!")}
    assert all((ROOT / name).exists() for name in included)
    for name in DOCKERFILES:
        for word, argument in instructions(name):
            if word == "COPY":
                *sources, _ = [part for part in argument.split() if not part.startswith("--")]
                assert set(sources) <= {".", *included}


def test_no_file_contains_a_secret():
    files = [one for one in CLUSTER.rglob("*") if one.is_file() and one.suffix != ".pyc"]
    assert len(files) > 8
    for file in files:
        for literal in LITERALS:
            found = literal.search(file.read_text(encoding="utf-8"))
            assert not found, (file, found)


@pytest.mark.parametrize(
    "text",
    [
        "aws_key: AKIAABCDEFGHIJKLMNOP",
        "postgresql://mlflow:hunter2@db/mlflow",
        "  MLFLOW_TRACKING_PASSWORD: hunter2",
        "--from-literal=PGPASSWORD='hunter2'",
    ],
)
def test_a_secret_would_be_found(text):
    assert any(literal.search(text) for literal in LITERALS)


def test_the_servers_command_is_mlflows_own(monkeypatch):
    from mlflow.cli import server
    from mlflow.environment_variables import MLFLOW_SERVER_ENABLE_JOB_EXECUTION

    for name, value in document("mlflow/mlflow.yaml", "ConfigMap", "mlflow-settings")[
        "data"
    ].items():
        monkeypatch.setenv(name, value)
    pod = document("mlflow/mlflow.yaml", "Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    command, name, *arguments = container["args"]
    assert (command, name) == ("mlflow", "server")
    with server.make_context("server", arguments) as context:
        assert context.params["backend_store_uri"].startswith("postgresql+psycopg2://")
        assert context.params["artifacts_destination"].startswith("s3://")
        assert context.params["serve_artifacts"]
        assert context.params["app_name"] == "basic-auth"
        assert context.params["port"] == container["ports"][0]["containerPort"]
    assert not MLFLOW_SERVER_ENABLE_JOB_EXECUTION.get()
    # A Service of that name would put its address into MLFLOW_PORT.
    assert not pod["enableServiceLinks"]


def test_the_server_answers_to_the_name_that_the_pods_use():
    from mlflow.server.security_utils import is_allowed_host_header

    settings = document("mlflow/mlflow.yaml", "ConfigMap", "mlflow-settings")["data"]
    allowed = settings["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    uri = document("kuberay/settings.yaml", "ConfigMap")["data"]["MLFLOW_TRACKING_URI"]
    for host in (uri.removeprefix("http://"), "localhost:5000"):
        assert is_allowed_host_header(allowed, host)
    assert not is_allowed_host_header(allowed, "evil.example:5000")


def test_the_login_has_settings_that_mlflow_knows():
    known, ours = configparser.ConfigParser(), configparser.ConfigParser()
    known.read_string((files("mlflow") / "server/auth/basic_auth.ini").read_text(encoding="utf-8"))
    ours.read_string(document("mlflow/mlflow.yaml", "ConfigMap", "mlflow-auth")["data"]["auth.ini"])
    assert set(ours["mlflow"]) <= set(known["mlflow"])
    assert "admin_password" not in ours["mlflow"]
