"""Which code made an output, and in which stages it has changed since without a new version."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from pipeline.config import Config, corpus, quantizer
from pipeline.graph.graph import Node
from pipeline.source_code import SourceCode

# In a manifest, for each module its digests (see `pipeline.source_code.Code`).
CODE = "code"
NAMED_MODULES = 3


def code_of(node: Node, code: SourceCode) -> dict[str, list[str]]:
    """The code that the node runs, for its manifest."""
    return code.of(getattr(node.stage.run, "__module__", ""), _chosen(node.config))


def changes(manifests: Iterable[tuple[Node, Mapping[str, Any]]], code: SourceCode) -> list[str]:
    """Lines that name stages whose code differs from what made their outputs, with the files.

    Stages of which the same has changed share a line. What few stages run is named first.
    """
    changed: dict[str, set[str]] = defaultdict(set)
    for node, manifest in manifests:
        changed[node.stage.name].update(code.changed(manifest.get(CODE, {})))
    users = Counter(module for modules in changed.values() for module in modules)
    stages: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for stage, modules in changed.items():
        stages[tuple(sorted(modules, key=lambda module: (users[module], module)))].append(stage)
    return [
        f"{', '.join(names)}: {_files(modules)}" for modules, names in stages.items() if modules
    ]


def _files(modules: tuple[str, ...]) -> str:
    named = [f"{module.replace('.', '/')}.py" for module in modules[:NAMED_MODULES]]
    more = len(modules) - len(named)
    return f"{', '.join(named)}{f' and {more} more' * bool(more)}"


def _chosen(config: Config) -> dict[str, str]:
    """The modules that the kinds of corpus and quantizer stand for, by those that load them."""
    kinds = {
        "tasks.prepare_corpus": (corpus.KINDS, config.corpus.kind),
        "pipeline.quantizer.unit_quantizer": (quantizer.KINDS, config.quantizer.kind),
    }
    return {
        loader: kind if "." in kind else f"{package}.{kind}"
        for loader, (package, kind) in kinds.items()
    }
