"""The guide: every command parses; every file, object and setting that it names exists."""

import os
import re
import shlex

import pytest
import typer
from cluster_files import CLUSTER, GUIDE, ROOT, document
from ray.scripts.scripts import cli as ray_cli

from pipeline.__main__ import app
from pipeline.config.files import load, load_all

TEXT = GUIDE.read_text(encoding="utf-8")
TOOLS = {"aws", "docker", "kubectl", "openssl", "pip"}  # others', not in this environment
SHELL = {"eval", "export"}


def commands() -> list[list[str]]:
    """The words of every command in the guide's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def starting(*first: str) -> list[list[str]]:
    found = [words for words in commands() if tuple(words[: len(first)]) == first]
    assert found, first
    return [words[len(first) :] for words in found]


def test_every_command_is_of_a_known_tool():
    assert {words[0] for words in commands()} <= {*TOOLS, *SHELL, "python", "ray"}


@pytest.mark.parametrize("words", starting("python", "-m", "pipeline"), ids=" ".join)
def test_the_projects_commands_parse(words, monkeypatch):
    monkeypatch.chdir(ROOT)
    name, *arguments = map(os.path.expandvars, words)
    context = typer.main.get_command(app).commands[name].make_context(name, arguments)
    given = context.params
    assert load_all(given["configs"], [*(given["overrides"] or ()), f"storage={given['storage']}"])


@pytest.mark.parametrize("command", re.findall(r"python cluster/local\.py ([^)\n#]+)", TEXT))
def test_the_local_clusters_commands_parse(command):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("local_cluster", CLUSTER / "local.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    name, *arguments = command.split()
    command_line = typer.main.get_command(module.app).commands[name]
    assert command_line.make_context(name, arguments).info_name == name


@pytest.mark.parametrize("words", starting("ray"), ids=" ".join)
def test_rays_commands_parse(words):
    name, *arguments = words[: words.index(">")] if ">" in words else words
    assert ray_cli.commands[name].make_context(name, arguments).info_name == name


def test_files_that_are_named_exist():
    named = re.findall(r"(?<![\w/.])(?:cluster|configs|kuberay|mlflow)/[\w./-]+\w", TEXT)
    links = re.findall(r"\]\(([\w./]+)\)", TEXT)
    for name in {*named, *links}:
        assert (ROOT / name).exists() or (CLUSTER / name).exists(), name


def test_objects_that_are_named_exist():
    (job,) = set(re.findall(r"(?:rayjob |job/)([\w-]+)", TEXT))
    assert job == document("kuberay/rayjob.yaml", "RayJob")["metadata"]["name"]
    cluster = document("kuberay/raycluster.yaml", "RayCluster")["metadata"]["name"]
    assert f"service/{cluster}-head-svc" in TEXT  # as KubeRay names it
    assert f"get secret {cluster} " in TEXT


def test_every_setting_that_is_named_exists():
    config = load(ROOT / "configs/librispeech100/dkm_full.yaml").model_dump()
    sections = "|".join(name for name, value in config.items() if isinstance(value, dict))
    named = re.findall(rf"`(?:--set )?({sections})\.([a-z_]+)", TEXT)
    assert named
    for section, key in named:
        assert key in config[section], f"{section}.{key}"


def test_no_path_is_of_another_machine():
    assert not re.search(r"/(?:root|work|tmp)/", TEXT)
    assert not list(CLUSTER.rglob("*.log"))
