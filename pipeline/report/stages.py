"""The stages in figures: how far each is, its seconds and bytes; what failed; with which versions."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.graph.disk_space import readable_bytes
from pipeline.graph.graph import Graph, Node
from pipeline.redaction import redact
from pipeline.storage.artifacts import ERROR_LOG, MANIFEST, ArtifactError
from pipeline.storage.provenance import shown_commit

COMPLETE = "complete"


@dataclass(frozen=True)
class Failure:
    """The error that a stage failed with, and where its traceback is."""

    label: str
    error: str
    log: str


@dataclass(frozen=True)
class Output:
    """One output of a stage: its manifest if it is complete, or why it failed."""

    node: Node
    state: str
    manifest: Mapping[str, Any]
    failure: Failure | None = None

    @classmethod
    def of(cls, node: Node) -> "Output":
        if manifest := _manifest(node):
            return cls(node, COMPLETE, manifest)
        if failure := _failure(node):
            return cls(node, "failed", {}, failure)
        return cls(node, "not complete" if node.artifact.names() else "not run", {})

    @property
    def seconds(self) -> float:
        return float(self.manifest.get("seconds", 0.0))

    @property
    def num_bytes(self) -> int:
        return sum(int(each["bytes"]) for each in self.manifest.get("files", {}).values())


@dataclass(frozen=True)
class StageRow:
    """What one stage has cost all variants, and how far its outputs are."""

    name: str
    variants: list[str]
    state: str
    seconds: float
    num_bytes: int

    @classmethod
    def of(cls, name: str, outputs: Sequence[Output], variants: Sequence[str]) -> "StageRow":
        states = Counter(output.state for output in outputs)
        several = ", ".join(f"{count} {state}" for state, count in states.items())
        return cls(
            name,
            [each for each in variants if any(each in output.node.variants for output in outputs)],
            several if len(states) > 1 else next(iter(states)),
            sum(output.seconds for output in outputs),
            sum(output.num_bytes for output in outputs),
        )

    @property
    def size(self) -> str:
        return readable_bytes(self.num_bytes)


@dataclass(frozen=True)
class Stages:
    """The rows in the order of the graph, failures, versions by library, and stages by commit."""

    rows: list[StageRow]
    failures: list[Failure]
    versions: dict[str, str]
    commits: dict[str, str]

    @property
    def seconds(self) -> float:
        return sum(row.seconds for row in self.rows)

    @property
    def size(self) -> str:
        return readable_bytes(sum(row.num_bytes for row in self.rows))


def stages(graph: Graph, variants: Sequence[str]) -> Stages:
    """What the stages have made for `variants`, which stand in this order."""
    outputs: dict[str, list[Output]] = defaultdict(list)
    for node in graph.nodes:
        outputs[node.stage.name].append(Output.of(node))
    everything = [output for each in outputs.values() for output in each]
    return Stages(
        [StageRow.of(name, each, variants) for name, each in outputs.items()],
        [output.failure for output in everything if output.failure],
        _versions([output.manifest for output in everything]),
        _commits(outputs),
    )


def _manifest(node: Node) -> dict[str, Any]:
    try:
        return dict(node.artifact.read_json(MANIFEST))
    except (ArtifactError, OSError, ValueError):
        return {}


def _failure(node: Node) -> Failure | None:
    try:
        with node.artifact.read(ERROR_LOG) as file:
            lines = file.read().decode(errors="replace").strip().splitlines()
    except (ArtifactError, OSError):
        return None
    log = redact(f"{node.artifact.uri}/{ERROR_LOG}")
    return Failure(node.label, redact(lines[-1]) if lines else "", log)


def _versions(manifests: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """All versions that any stage ran with, in the order in which they came."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for manifest in manifests:
        for library, version in manifest.get("versions", {}).items():
            found[library][version] = None
    return {library: ", ".join(versions) for library, versions in found.items()}


def _commits(outputs: Mapping[str, Sequence[Output]]) -> dict[str, str]:
    """Each commit that made outputs, and of which stages, in the order of the graph."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for stage, each in outputs.items():
        for output in each:
            if commit := shown_commit(output.manifest):
                found[commit][stage] = None
    return {commit: ", ".join(stages) for commit, stages in found.items()}
