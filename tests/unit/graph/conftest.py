"""Graphs of toy stages."""

import pytest
from toy_graphs import CHAIN

from pipeline.graph import graph as stage_graph


@pytest.fixture
def build(monkeypatch):
    def make(configs, stages=CHAIN, **options):
        monkeypatch.setattr(stage_graph, "load_stage", {one.name: one for one in stages}.get)
        return stage_graph.build(configs, default_stages=[one.name for one in stages], **options)

    return make
