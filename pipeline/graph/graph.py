"""The graph over all variants: which outputs are complete, which are not, and in what order.

A node is one stage, or one split of it, under one digest; members of variants whose settings and
inputs agree share it. Stages are known by module name and imported when a graph is built, so this file imports
neither torch nor Ray.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from pipeline.config import Config, ConfigError, digest
from pipeline.config.declaration import load_declaration
from pipeline.config.members import members, traits
from pipeline.graph.sources import Fingerprints
from pipeline.graph.stage import Estimate, Input, Resources, Stage, output_name
from pipeline.storage.artifacts import MANIFEST, Artifact, ArtifactError, artifact
from pipeline.storage.writable import require_no_file

DEFAULT_STAGES = (
    "tasks.prepare_corpus",
    "tasks.extract_features",
    "tasks.fit_codebook",
    "tasks.train_joint",
    "tasks.tokenize_corpus",
    "tasks.train_token_asr",
    "tasks.evaluate_asr",
    "tasks.phone_purity",
    "tasks.train_unit_lm",
    "tasks.evaluate_unit_lm",
    "tasks.train_vocoder",
    "tasks.evaluate_resynthesis",
    "tasks.judge_resynthesis",
    "tasks.bound_resynthesis",
)

PARTS = "parts.json"


@dataclass(frozen=True)
class Node:
    """One stage's output, for every member that shares it; `split` is empty if it is for all.

    `config` is the first of those members' configs; the others agree with it in everything that the
    digest covers. `variants` are those members' variants, each with what the members that share the
    node have in common, and no others: `{"kmeans": ("seed 1",)}`. `inputs` maps the names of the outputs it reads to their digests; `reads` is what
    its own digest has of them.

    The digest of a node that `awaits` an output is not final: it depends on what that will contain.
    """

    stage: Stage
    digest: str
    config: Config
    variants: dict[str, tuple[str, ...]]
    settings: dict[str, Any]
    inputs: dict[str, str]
    reads: dict[str, Any] = field(default_factory=dict)
    split: str = ""
    awaits: str = ""
    # After its inputs, then in the order in which the modules are listed.
    rank: tuple[int, int] = (0, 0)

    @property
    def name(self) -> str:
        """The stage, and the split if it is for one: `evaluate_asr/test`."""
        return output_name(self.stage.name, self.split)

    @property
    def key(self) -> tuple[str, str]:
        return self.name, self.digest

    @property
    def label(self) -> str:
        """Short enough for a log line: `fit_codebook[kmeans +3]`, `train_joint[kmeans, seed 1]`."""
        (first, shared), *others = self.variants.items()
        more = f" +{len(others)}" if others else ""
        return f"{self.name}[{', '.join((first, *shared))}{more}]"

    @property
    def member(self) -> str:
        """Which of its variant's members it is for: `seed 1`; empty if it is for all of them."""
        return ", ".join(self.variants[self.config.variant])

    @property
    def artifact(self) -> Artifact:
        return artifact(self.config.storage, self.stage.name, self.digest)

    @property
    def input_artifacts(self) -> dict[str, Artifact]:
        storage = self.config.storage
        return {
            name: artifact(storage, name.partition("/")[0], digest)
            for name, digest in self.inputs.items()
        }

    @property
    def workers(self) -> int:
        """How many workers the stage starts."""
        if not self.stage.trains:
            return self.stage.workers(self.config)
        wanted = self.config.cluster.training_workers
        return wanted if wanted > 1 else 0

    @property
    def uses_workers(self) -> bool:
        """Whether workers compute for it, be it only its own process."""
        return self.workers > 0 or self.stage.trains

    @property
    def worker_resources(self) -> Resources:
        """What each worker holds while it runs."""
        return Resources(self.config.cluster.cpus_per_worker, self.config.cluster.gpus_per_worker)

    @property
    def own_resources(self) -> Resources:
        """What the stage's own process holds: no CPU, where workers compute for it."""
        if self.workers:
            return Resources(0.0, self.stage.gpus)
        if self.stage.trains:
            return self.worker_resources
        return Resources(self.stage.cpus, self.stage.gpus)

    @property
    def processes(self) -> list[Resources]:
        """What the stage's process and each of its workers hold while they run."""
        return [self.own_resources, *[self.worker_resources] * self.workers]

    @property
    def resources(self) -> Resources:
        """What they hold together."""
        return sum(self.processes, Resources())

    def estimate(self) -> Estimate:
        outputs = {**self.input_artifacts, self.name: self.artifact}
        return self.stage.estimate(self.config, self.split, outputs)

    def bytes_to_write(self, estimate: Estimate) -> int:
        """The estimate, less what an earlier, interrupted run has written."""
        expected = estimate.bytes_written
        return max(0, expected - sum(self.artifact.sizes().values())) if expected else 0

    def description(self) -> dict[str, Any]:
        """What the output depends on, for its manifest."""
        return {
            "stage": self.stage.name,
            "split": self.split,
            "version": self.stage.version,
            "digest": self.digest,
            "variants": list(self.variants),
            "member": self.member,
            "settings": self.settings,
            "inputs": self.inputs,
            "reads": self.reads,
        }

    def shared_with(self, other: "Node") -> "Node":
        """This node for the members of `other` too, which has the same digest."""
        variants = dict(self.variants)
        for variant, theirs in other.variants.items():
            ours = variants.get(variant, theirs)
            variants[variant] = tuple(trait for trait in ours if trait in theirs)
        return replace(self, variants=variants, rank=other.rank)


@dataclass(frozen=True)
class Member:
    """One training of a variant: all that is computed with one seed.

    `name` is empty if it is the variant's only one, or else says which it is: `seed 1`. `nodes` are
    by name.
    """

    name: str
    config: Config
    nodes: dict[str, Node]


@dataclass(frozen=True)
class Graph:
    """The nodes of all members of all variants."""

    members: tuple[Member, ...]

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node once, each after its inputs."""
        unique = {node.key: node for member in self.members for node in member.nodes.values()}
        return tuple(sorted(unique.values(), key=lambda node: node.rank))

    def pending(self) -> tuple[Node, ...]:
        """The nodes whose output is not complete, each after its inputs."""
        return tuple(node for node in self.nodes if not node.artifact.is_complete())

    def check(self) -> None:
        """Let each pending stage look at what it needs and is to read, as far as that is known.

        Raises:
            Exception: a stage's own error for the user.
        """
        checked = set()
        for node in self.pending():
            node.stage.requires(node.config)
            # The seeds of a variant read the same, and take the same of it.
            same = node.name, node.config.variant, node.config.corpus.fold.speaker
            if not node.awaits and same not in checked:
                checked.add(same)
                node.stage.check(node.config, node.input_artifacts)

    def members_of(self, variant: str) -> tuple[Member, ...]:
        """The members of one variant, in the order of its seeds."""
        return tuple(member for member in self.members if member.config.variant == variant)


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
    fingerprints: Fingerprints | None = None,
    *,
    sees_storage: bool = True,
) -> Graph:
    """The graph over all configs; with `only`, those stages and what they read.

    A process that cannot reach the storage gets it as if nothing were complete.

    Raises:
        ConfigError: a stage is unknown, or reads one that is absent or does not apply.
        UnwritableError: a file is where the storage's folder should be.
    """
    if sees_storage:
        for storage in {config.storage for config in configs}:
            require_no_file(storage)
    fingerprints = fingerprints or Fingerprints()
    branches: dict[tuple[str, tuple[str, ...]], _Branch] = {}

    def branch_of(config: Config, own: tuple[str, ...]) -> _Branch:
        """The one branch of a member, which is asked for or which others read."""
        key, modules = (config.variant, own), (*default_stages, *config.extra_stages)
        if key not in branches:
            branches[key] = _Branch(
                config, own, modules, fingerprints, branch_of, sees_storage=sees_storage
            )
        return branches[key]

    for config in configs:
        for one in members(config):
            branch_of(one, traits(one, config)).visit(only)
    shared: dict[tuple[str, str], Node] = {}
    for node in (node for branch in branches.values() for node in branch.nodes.values()):
        shared[node.key] = shared[node.key].shared_with(node) if node.key in shared else node
    return Graph(tuple(branch.member(shared) for branch in branches.values()))


class _Branch:
    """The part of the graph that one member's config asks for, or that others read of it."""

    def __init__(
        self,
        config: Config,
        traits: tuple[str, ...],
        modules: Sequence[str],
        fingerprints: Fingerprints,
        branch_of: Callable[[Config, tuple[str, ...]], "_Branch"],
        *,
        sees_storage: bool,
    ) -> None:
        self.config = config
        self.traits = traits
        self.fingerprints = fingerprints
        self.branch_of = branch_of
        self.sees_storage = sees_storage
        self.stages: dict[str, Stage] = {}
        for module in dict.fromkeys(modules):
            stage = load_stage(module)
            if stage.name in self.stages:
                raise ConfigError(
                    f"the stage module '{module}' names its stage '{stage.name}', as another "
                    "does: rename it, or leave it out of extra_stages"
                )
            self.stages[stage.name] = stage
        self.nodes: dict[str, Node] = {}
        self._parts: dict[str, dict[str, str] | None] = {}

    def visit(self, only: Sequence[str]) -> None:
        """Make the nodes of the stages that apply, or of `only` and what they read."""
        unknown = sorted(set(only) - set(self.stages))
        if unknown:
            raise ConfigError(
                f"no stage is named {unknown[0]}; there are: {', '.join(self.stages)}"
            )
        for name in only or self.stages:
            if self.stages[name].applies_to(self.config):
                for split in self.stages[name].splits(self.config):
                    self.node(Input(name, split))

    def member(self, shared: Mapping[tuple[str, str], Node]) -> Member:
        """The member, with its nodes as all members share them."""
        nodes = {name: shared[node.key] for name, node in self.nodes.items()}
        return Member(", ".join(self.traits), self.config, nodes)

    def node(self, wanted: Input, readers: tuple[str, ...] = ()) -> Node:
        """The node of `wanted`, made after those that it reads; `readers` are on the way to it."""
        if wanted.config is not None:
            other = self.branch_of(wanted.config, self.traits)
            return other.node(replace(wanted, config=None))
        if wanted.name in self.nodes:
            return self.nodes[wanted.name]
        self._check(wanted, readers)
        stage, split = self.stages[wanted.stage], wanted.split
        inputs = stage.inputs(self.config, split)
        sources = [self.node(each, (*readers, wanted.stage)) for each in inputs]
        parts = [self._parts_of(source) for source in sources]
        settings = {**stage.settings(self.config), **self._fingerprints(stage)}
        reads = {
            each.name: _content(each, source, known)
            for each, source, known in zip(inputs, sources, parts, strict=True)
        }
        version = {"stage": stage.name, "split": split, "version": stage.version}
        depth = 1 + max((source.rank[0] for source in sources), default=0)
        node = Node(
            stage,
            digest({**version, "settings": settings, "inputs": reads}),
            self.config,
            variants={self.config.variant: self.traits},
            settings=settings,
            inputs={source.name: source.digest for source in sources},
            reads=reads,
            split=split,
            awaits=next(filter(None, map(_awaited, sources, parts)), ""),
            rank=(depth, list(self.stages).index(stage.name)),
        )
        self.nodes[wanted.name] = node
        return node

    def _parts_of(self, source: Node) -> dict[str, str] | None:
        """The parts of a complete output that has any."""
        if source.name not in self._parts:
            sees_parts = source.stage.has_parts and self.sees_storage
            known = sees_parts and source.artifact.is_complete()
            self._parts[source.name] = source.artifact.read_json(PARTS) if known else None
        return self._parts[source.name]

    def _fingerprints(self, stage: Stage) -> dict[str, str]:
        sources = stage.sources(self.config)
        return {name: self.fingerprints.of(source) for name, source in sources.items()}

    def _check(self, wanted: Input, readers: tuple[str, ...]) -> None:
        name = wanted.stage
        if name in readers:
            raise ConfigError(f"stages read each other in a cycle: {' -> '.join((*readers, name))}")
        if name not in self.stages:
            raise ConfigError(
                f"stage '{readers[-1]}' reads '{name}', which is not a stage of this config: add its "
                "module to extra_stages"
            )
        if not self.stages[name].applies_to(self.config):
            raise ConfigError(
                f"variant '{self.config.variant}': stage '{readers[-1]}' reads '{name}', which "
                "does not apply to this config: the two settings contradict each other"
            )
        splits = self.stages[name].splits(self.config)
        if wanted.split not in splits:
            raise ConfigError(
                f"stage '{readers[-1]}' reads '{wanted.name}', but '{name}' has "
                f"{f'the splits {list(splits)}' if any(splits) else 'one output for all splits'}"
            )


def _awaited(source: Node, parts: dict[str, str] | None) -> str:
    """The output that must be complete before a reader of `source` has its digest."""
    return source.awaits or (source.name if source.stage.has_parts and parts is None else "")


def _content(read: Input, source: Node, parts: dict[str, str] | None) -> Any:
    """What a reader's digest has of an input: its digest, or those of the parts that are read.

    Raises:
        ArtifactError: the output is complete, but lacks a part.
    """
    if parts is None:
        return source.digest
    missing = [part for part in read.parts if part not in parts]
    if missing:
        raise ArtifactError(
            f"{source.artifact.uri}/{PARTS} has no part {missing}: delete {MANIFEST} beside it and "
            "run again"
        )
    return {part: parts[part] for part in read.parts or sorted(parts)}
