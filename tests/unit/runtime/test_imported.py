"""A function by name: loaded in the process that calls it, and every name in the stages exists."""

import pickle
import re
from pathlib import Path
from pkgutil import resolve_name

import pytest

from pipeline.runtime.imported import Imported

TASKS = Path(__file__).resolve().parents[3] / "tasks"
NAMES = sorted(
    name
    for path in TASKS.glob("*.py")
    for name in re.findall(r'Imported\("(.*?)"\)', path.read_text())
)


def test_it_calls_what_it_names_with_what_it_is_given():
    divide = pickle.loads(pickle.dumps(Imported("builtins:divmod")))  # noqa: S301 - our own bytes
    assert divide(7, 2) == (3, 1)
    assert Imported("builtins:dict")(a=1) == {"a": 1}


def test_a_stage_names_six():
    assert len(NAMES) == 6


@pytest.mark.parametrize("name", NAMES)
def test_what_a_stage_names_exists(name):
    assert callable(resolve_name(name))
