"""Stages that work split by split."""

import pytest
from toy_graphs import config, labels, nodes_of, stage

from pipeline.config import ConfigError
from pipeline.config.corpus import Splits
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph.stage import Input

SPLITS = (
    stage("tokens", "train", splits=lambda config: config.corpus.splits.names),
    stage("train"),
    stage("vocoder", Input("tokens", "train")),
)


def test_a_stage_with_splits_has_a_node_for_each(build):
    graph = build([config("v")], SPLITS)
    assert labels(graph) == [
        "train[v]",
        "tokens/train[v]",
        "tokens/valid[v]",
        "tokens/test[v]",
        "vocoder[v]",
    ]
    nodes = nodes_of(graph, "v")
    assert len({node.digest for node in nodes.values()}) == 5
    assert nodes["vocoder"].inputs == {"tokens/train": nodes["tokens/train"].digest}
    assert nodes["tokens/test"].artifact.uri.endswith(f"/tokens/{nodes['tokens/test'].digest}")
    artifacts = nodes["vocoder"].input_artifacts
    assert artifacts == {"tokens/train": nodes["tokens/train"].artifact}


def test_a_further_split_changes_no_other(build):
    splits = Splits(test=("test", "other"))
    corpus = SyntheticCorpus().model_copy(update={"splits": splits})
    more = config("v").model_copy(update={"corpus": corpus})
    before, after = (nodes_of(build([asked], SPLITS), "v") for asked in (config("v"), more))
    assert after.keys() - before.keys() == {"tokens/other"}
    assert {name: after[name].digest for name in before} == {n: before[n].digest for n in before}


def test_reading_a_split_that_is_not_there_is_rejected(build):
    stages = (*SPLITS, stage("listen", Input("tokens", "dev")), stage("see", "tokens"))
    with pytest.raises(ConfigError, match=r"'listen' reads 'tokens/dev', but 'tokens' has the spl"):
        build([config("v")], stages[:4])
    with pytest.raises(ConfigError, match=r"'see' reads 'tokens', but 'tokens' has the splits"):
        build([config("v")], (*SPLITS, stages[4]))
