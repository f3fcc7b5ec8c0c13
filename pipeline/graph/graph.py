"""The graph over all variants: which outputs are complete, which are not, and in what order.

A node is one stage under one digest; variants whose settings and inputs agree share it. Stages are
known by module name and imported when a graph is built, so this file imports neither torch nor Ray.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.config import Config, ConfigError, digest
from pipeline.config.declaration import load_declaration
from pipeline.graph.stage import Estimate, Resources, Stage
from pipeline.storage.artifacts import Artifact, artifact

DEFAULT_STAGES = (
    "tasks.prepare_corpus",
    "tasks.extract_features",
    "tasks.fit_codebook",
    "tasks.train_joint",
    "tasks.tokenize_corpus",
    "tasks.evaluate_asr",
    "tasks.phone_purity",
    "tasks.train_vocoder",
    "tasks.evaluate_resynthesis",
)


@dataclass(frozen=True)
class Node:
    """One stage's output, for every variant that shares it.

    `config` is the first of those variants' configs; the others agree with it in everything that the
    digest covers. `inputs` maps the names of the stages it reads to their digests.
    """

    stage: Stage
    digest: str
    config: Config
    variants: tuple[str, ...]
    settings: dict[str, Any]
    inputs: dict[str, str]
    # After its inputs, then in the order in which the modules are listed.
    rank: tuple[int, int] = (0, 0)

    @property
    def key(self) -> tuple[str, str]:
        return self.stage.name, self.digest

    @property
    def label(self) -> str:
        """Short enough for a log line: `fit_codebook[kmeans +3]`."""
        first, *others = self.variants
        return f"{self.stage.name}[{first}{f' +{len(others)}' if others else ''}]"

    @property
    def artifact(self) -> Artifact:
        return artifact(self.config.storage, self.stage.name, self.digest)

    @property
    def input_artifacts(self) -> dict[str, Artifact]:
        storage = self.config.storage
        return {name: artifact(storage, name, digest) for name, digest in self.inputs.items()}

    @property
    def workers(self) -> int:
        """How many workers the stage starts."""
        return self.stage.workers(self.config)

    @property
    def worker_resources(self) -> Resources:
        """What each worker holds while it runs."""
        return Resources(self.config.cluster.cpus_per_worker, self.config.cluster.gpus_per_worker)

    @property
    def resources(self) -> Resources:
        """What the stage and its workers hold while they run."""
        worker = self.worker_resources
        return Resources(
            self.stage.cpus + self.workers * worker.cpus,
            self.stage.gpus + self.workers * worker.gpus,
        )

    def estimate(self) -> Estimate:
        return self.stage.estimate(self.config, self.input_artifacts)

    def bytes_to_write(self) -> int:
        """The estimate, less what an earlier, interrupted run has written."""
        expected = self.estimate().bytes_written
        return max(0, expected - sum(self.artifact.sizes().values())) if expected else 0

    def description(self) -> dict[str, Any]:
        """What the output depends on, for its manifest."""
        return {
            "stage": self.stage.name,
            "version": self.stage.version,
            "digest": self.digest,
            "variants": list(self.variants),
            "settings": self.settings,
            "inputs": self.inputs,
        }


@dataclass(frozen=True)
class Graph:
    """The nodes of all variants, each after its inputs."""

    nodes: tuple[Node, ...]

    def pending(self) -> tuple[Node, ...]:
        """The nodes whose output is not complete, each after its inputs."""
        return tuple(node for node in self.nodes if not node.artifact.is_complete())

    def of_variant(self, variant: str) -> dict[str, Node]:
        """The nodes of one variant by the name of their stage."""
        return {node.stage.name: node for node in self.nodes if variant in node.variants}


def load_stage(module: str) -> Stage:
    """Import a stage's file, such as "tasks.train_joint", and return its `STAGE`.

    Raises:
        ConfigError: the module cannot be imported, or defines no stage.
    """
    return load_declaration(module, "STAGE", Stage, "stage")


def build(
    configs: Sequence[Config],
    only: Sequence[str] = (),
    default_stages: Sequence[str] = DEFAULT_STAGES,
) -> Graph:
    """The graph over all configs; with `only`, those stages and what they read.

    Raises:
        ConfigError: a stage is unknown, or reads one that is absent or does not apply.
    """
    shared: dict[tuple[str, str], Node] = {}
    for config in configs:
        for node in _Variant(config, (*default_stages, *config.extra_stages)).nodes(only):
            known = shared.setdefault(node.key, node)
            if known is not node:
                variants = (*known.variants, config.variant)
                shared[node.key] = replace(known, variants=variants, rank=node.rank)
    return Graph(tuple(sorted(shared.values(), key=lambda node: node.rank)))


class _Variant:
    """The part of the graph that one config asks for."""

    def __init__(self, config: Config, modules: Sequence[str]) -> None:
        self.config = config
        self.stages: dict[str, Stage] = {}
        for module in dict.fromkeys(modules):
            stage = load_stage(module)
            if stage.name in self.stages:
                raise ConfigError(
                    f"the stage module '{module}' names its stage '{stage.name}', as another "
                    "does: rename it, or leave it out of extra_stages"
                )
            self.stages[stage.name] = stage
        self._nodes: dict[str, Node] = {}

    def nodes(self, only: Sequence[str]) -> list[Node]:
        """The nodes of the stages that apply, or of `only` and what they read."""
        unknown = sorted(set(only) - set(self.stages))
        if unknown:
            raise ConfigError(
                f"no stage is named {unknown[0]}; there are: {', '.join(self.stages)}"
            )
        for name in only or self.stages:
            if self.stages[name].applies(self.config):
                self._visit(name, ())
        return list(self._nodes.values())

    def _visit(self, name: str, readers: tuple[str, ...]) -> Node:
        if name in self._nodes:
            return self._nodes[name]
        self._check(name, readers)
        stage = self.stages[name]
        sources = [self._visit(source, (*readers, name)) for source in stage.inputs(self.config)]
        inputs = {source.stage.name: source.digest for source in sources}
        settings = stage.settings(self.config)
        digest_of_node = digest(
            {"stage": name, "version": stage.version, "settings": settings, "inputs": inputs}
        )
        depth = 1 + max((source.rank[0] for source in sources), default=0)
        variants, rank = (self.config.variant,), (depth, list(self.stages).index(name))
        node = Node(stage, digest_of_node, self.config, variants, settings, inputs, rank)
        self._nodes[name] = node
        return node

    def _check(self, name: str, readers: tuple[str, ...]) -> None:
        if name in readers:
            raise ConfigError(f"stages read each other in a cycle: {' -> '.join((*readers, name))}")
        if name not in self.stages:
            raise ConfigError(
                f"stage '{readers[-1]}' reads '{name}', which is not a stage of this config: add its "
                "module to extra_stages"
            )
        if not self.stages[name].applies(self.config):
            raise ConfigError(
                f"variant '{self.config.variant}': stage '{readers[-1]}' reads '{name}', which "
                "does not apply to this config: the two settings contradict each other"
            )
