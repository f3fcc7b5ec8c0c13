"""Stages that compute nothing, and graphs of them."""

from pipeline.config import Config
from pipeline.corpus.adapters.synthetic import SyntheticCorpus
from pipeline.graph import graph as stage_graph
from pipeline.graph.stage import Input, Stage


def config(variant: str, storage: str = "runs", **changes) -> Config:
    return Config(
        variant=variant,
        storage=storage,
        corpus=SyntheticCorpus(),
        ssl={"model": "some/model", "revision": "0" * 40},
        **changes,
    )


def run(context):
    return {}


def as_input(read: str | Input) -> Input:
    return read if isinstance(read, Input) else Input(read)


def stage(name: str, *inputs: str, reads=None, **more) -> Stage:
    def settings(config: Config) -> dict:
        return {} if reads is None else {reads: getattr(config, reads).model_dump(mode="json")}

    return Stage(
        name,
        more.pop("version", 1),
        settings,
        run,
        inputs=lambda *_: tuple(map(as_input, inputs)),
        **more,
    )


def seeded(variant: str, *seeds: int, **changes) -> Config:
    return config(variant, training={"seeds": seeds}, **changes)


CHAIN = (
    stage("corpus", reads="corpus"),
    stage("features", "corpus", reads="features"),
    stage("train", "features", reads="quantizer"),
    stage("vocoder", "train", applies=lambda config: config.vocoder.enabled),
    stage("evaluate", "train"),
)


KMEANS = {"kind": "kmeans", "layer_weights": "fixed"}


def nodes_of(graph: stage_graph.Graph, variant: str) -> dict[str, stage_graph.Node]:
    """Those of a variant that has one member."""
    [member] = graph.members_of(variant)
    return member.nodes


def labels(graph: stage_graph.Graph) -> list[str]:
    return [node.label for node in graph.nodes]
