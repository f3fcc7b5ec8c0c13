"""Stages are modules, a user's own too."""

import sys
import textwrap

import pytest
from toy_graphs import config, labels

from pipeline.config import ConfigError
from pipeline.graph import graph as stage_graph


def module(folder, name: str, text: str) -> str:
    (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return name


@pytest.fixture
def importable(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("own_stage", "no_stage", "broken_stage", "twin_stage"):
        sys.modules.pop(name, None)


OWN = """
    from pipeline.graph.stage import Stage

    STAGE = Stage("own", 1, lambda config: {}, lambda context: {})
"""


def test_a_users_own_stage_is_one_more_module(importable):
    module(importable, "own_stage", OWN)
    graph = stage_graph.build([config("v", extra_stages=("own_stage",))], default_stages=())
    assert labels(graph) == ["own[v]"]


def test_a_stage_named_twice_is_rejected_unless_it_is_the_same_module(importable):
    module(importable, "own_stage", OWN)
    module(importable, "twin_stage", OWN)
    same = config("v", extra_stages=("own_stage",))
    assert len(stage_graph.build([same], default_stages=("own_stage",)).nodes) == 1
    with pytest.raises(ConfigError, match="'own_stage' names its stage 'own', as another does"):
        stage_graph.build([same], default_stages=("twin_stage",))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("gone_stage", None, "'gone_stage' cannot be imported .*No module named 'gone_stage'"),
        ("no_stage", "STAGE = 'train'", "'no_stage' defines no stage"),
        ("broken_stage", "import nonesuch", "'broken_stage' cannot be imported .*nonesuch"),
    ],
)
def test_a_module_without_a_stage_is_a_clear_error(importable, name, text, message):
    if text is not None:
        module(importable, name, text)
    with pytest.raises(ConfigError, match=message):
        stage_graph.load_stage(name)
