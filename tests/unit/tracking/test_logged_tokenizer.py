"""A logged tokenizer loads with what was logged with it: without this repository, from its pins."""

import ast
import json
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.models import Model
from packaging.requirements import Requirement
from stored_runs import run_id, stored
from support import save_tiny_tokenizer

from pipeline.storage.artifacts import Artifact
from pipeline.tokenizer.identity import tokenizer_digest
from pipeline.tokenizer.unit_tokenizer import UnitTokenizer
from pipeline.tracking.logged_model import log_tokenizer
from pipeline.tracking.tracker import connect

# What runs on the other machine: only the standard library and what the pins name is there.
ELSEWHERE = """
import json, sys
sys.path.append(sys.argv[1])
import mlflow
assert not any(name.partition(".")[0] == "pipeline" for name in sys.modules)
model = mlflow.pyfunc.load_model(sys.argv[2])
import pipeline, pandas, numpy
assert pipeline.__file__.startswith(sys.argv[2]), pipeline.__file__
waves = [numpy.sin(numpy.arange(n) / 5).astype(numpy.float32) for n in (4000, 9000)]
units = [model.predict(pandas.DataFrame({"waveform": waves}))]
units += [model.predict([{"waveform": wave.tolist()} for wave in waves])]
units += [model.predict(model.input_example), model.predict([{"waveform": [0] * 800}])]
print(json.dumps(units))
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return save_tiny_tokenizer(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def tokenizer(trained):
    return trained / "tokenizer"


@pytest.fixture
def logged(uri, run, stage, storage, trained):
    """The logged model, and its folder."""
    log_tokenizer(run, stage, Artifact(str(trained)))
    (output,) = stored(uri, stage).outputs.model_outputs
    model = connect(uri).get_logged_model(output.model_id)
    return model, storage / "mlartifacts" / "models" / output.model_id / "artifacts"


def lines(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("-c")]


@pytest.fixture
def environment(logged, tmp_path):
    """A folder with links to the pinned packages, but not to this project."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    for line in lines(logged[1] / "constraints.txt"):
        distribution = metadata.distribution(Requirement(line).name)
        if distribution.name == "dkm-pipeline":
            continue
        tops = {Path(file).parts[0] for file in distribution.files or ()}
        for top in tops - {"..", "__pycache__"}:
            target = folder / top
            if not target.is_symlink():
                target.symlink_to(distribution.locate_file(top))
    return folder


@pytest.mark.slow
def test_it_loads_without_this_repository_from_what_its_pins_name(logged, environment, tokenizer):
    _, folder = logged
    command = [sys.executable, "-I", "-S", "-c", ELSEWHERE, str(environment), str(folder)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    tables, dicts, example, silence = json.loads(finished.stdout.splitlines()[-1])
    waves = [np.sin(np.arange(n) / 5).astype(np.float32) for n in (4000, 9000)]
    expected = UnitTokenizer.from_pretrained(tokenizer).encode(waves)
    assert tables == dicts == [units_T.tolist() for units_T in expected]
    assert [len(units) for units in (*example, *silence)] == [4, 2]


def test_every_package_that_the_shipped_code_imports_is_required_as_tested(logged):
    """Found anew: by its sources' import lines."""
    _, folder = logged
    pins = dict(line.split("==") for line in lines(folder / "requirements.txt"))
    imported = set()
    for path in [*folder.rglob("code/**/*.py"), folder / "logged_tokenizer.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    others = imported - sys.stdlib_module_names - {"pipeline", "triton"}  # torch brings Triton
    assert others == pins.keys()
    for name, version in pins.items():
        assert metadata.version(name).partition("+")[0] == version
    constraints = dict(line.split("==") for line in lines(folder / "constraints.txt"))
    assert {"sympy", "tokenizers"} <= constraints.keys()  # which torch and transformers need
    for name, version in constraints.items():
        assert metadata.version(name).partition("+")[0] == version
    assert (folder / "requirements.txt").read_text().endswith("\n-c constraints.txt")


def test_it_says_what_it_takes_what_it_gives_and_whose_it_is(logged, uri, stage, tokenizer):
    model, folder = logged
    variant = stage.parent.name
    assert model.name == f"{variant}-tokenizer"
    assert model.source_run_id == run_id(uri, stage)
    digest = tokenizer_digest(tokenizer)
    ours = {name: text for name, text in model.tags.items() if name.startswith("pipeline.")}
    assert ours == {
        **stage.parent.tags,
        **stage.tags,
        "pipeline.tokenizer": digest,
    }
    described = yaml.safe_load((folder / "MLmodel").read_text())
    assert described["metadata"]["pipeline.variant"] == variant
    signature = Model.load(folder).signature
    (column,) = signature.inputs.to_dict()
    assert (column["name"], column["type"], column["items"]) == (
        "waveform",
        "array",
        {"type": "double"},
    )
    (units,) = signature.outputs.to_dict()
    assert (units["type"], units["items"]) == ("array", {"type": "long"})
    example = json.loads((folder / "input_example.json").read_text())
    assert len(pd.DataFrame(example)["waveform"][0]) == 1600
    version = sysconfig.get_python_version()
    assert yaml.safe_load((folder / "python_env.yaml").read_text())["python"].startswith(version)
