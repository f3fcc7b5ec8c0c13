"""A built wheel is complete: it works in a fresh environment, from a folder without the repository."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import pytest
import yaml
from fake_dashboard import fake_dashboard

from pipeline.config.files import load_all
from pipeline.graph.graph import build

ROOT = Path(__file__).resolve().parents[2]
DIGESTS = """
import json
from pathlib import Path
from pipeline.config.files import load_all
from pipeline.config.shipped import config_files
from pipeline.graph.graph import build
print(json.dumps([str(Path(build.__code__.co_filename)),
                  {node.label: node.digest for node in build(load_all(config_files("demo"))).nodes}]))
"""


def execute(folder: Path, *command: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A fresh environment with the wheel alone; the dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    build_wheel = ("wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", folder, ROOT)
    execute(folder, *pip, *build_wheel)
    [wheel] = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    [packages] = (folder / "venv").glob("lib/python*/site-packages")
    # Editable installs hide in .pth files, which Python does not read in folders added this way.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    python = folder / "venv" / "bin" / "python"
    execute(folder, *pip, "--python", python, "install", "--no-deps", "--no-index", wheel)
    return python.parent


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def test_shipped_configs_resolve_by_name(environment, elsewhere):
    printed = execute(elsewhere, environment / "dkm", "run", "demo", "--dry-run")
    assert [config["variant"] for config in yaml.safe_load_all(printed)] == ["dkm_full", "kmeans"]
    assert not list(elsewhere.iterdir())


def test_plan_of_a_variant_names_its_stages(environment, elsewhere):
    manifest = elsewhere / "manifest.jsonl"
    manifest.write_text('{"utt_id": "a", "split": "train", "speaker": "s", "audio": "a.wav"}\n')
    command = ("plan", "spoken_digits/kmeans", "--set", f"corpus.manifest={manifest}")
    assert "train_joint" in execute(elsewhere, environment / "dkm", *command)


def test_digests_are_those_of_the_repository(environment, elsewhere, monkeypatch):
    code, digests = json.loads(execute(elsewhere, environment / "python", "-c", DIGESTS))
    assert Path(code).is_relative_to(environment.parent)
    monkeypatch.chdir(ROOT)
    # A demo that was run here would make more known of its corpus than is known elsewhere.
    configs = load_all(sorted(Path("configs/demo").glob("*.yaml")), [f"storage={elsewhere}/runs"])
    assert digests == {node.label: node.digest for node in build(configs).nodes}


def test_a_job_finds_the_configs_in_the_package(environment, elsewhere):
    """Configs and encoder travel within `pipeline`, and the job's command names them."""
    with fake_dashboard() as dashboard:
        options = ("--address", dashboard.address, "--storage", "s3://bucket/runs", "--no-follow")
        execute(elsewhere, environment / "dkm", "submit", "demo", *options)
    assert "run demo/dkm_full.yaml demo/kmeans.yaml" in dashboard.jobs[0]["entrypoint"]
    packed = {
        name for data in dashboard.packages.values() for name in ZipFile(BytesIO(data)).namelist()
    }
    assert "pipeline/shipped/configs/demo/kmeans.yaml" in packed
    assert "pipeline/shipped/configs/small_encoder/model.safetensors" in packed


def test_cluster_files_are_there(environment, elsewhere):
    folder = Path(execute(elsewhere, environment / "dkm", "shipped").strip())
    assert folder.is_relative_to(environment.parent)
    for path in (ROOT / "cluster").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert (folder / path.relative_to(ROOT)).read_bytes() == path.read_bytes()


def test_the_page_finds_its_template(environment, elsewhere):
    execute(elsewhere, environment / "dkm", "report", "demo/kmeans", "--storage", "runs")
    page = (elsewhere / "runs" / "report.html").read_text(encoding="utf-8")
    assert "Nothing is scored yet." in page
