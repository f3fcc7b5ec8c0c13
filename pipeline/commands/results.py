"""What the trainings of all variants have scored, as far as they are computed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.config import Config
from pipeline.graph.graph import Graph, Member
from pipeline.metrics import comparison
from pipeline.metrics.seed_scores import over_folds, over_seeds
from pipeline.metrics.word_errors import WordErrors, pooled, read_word_errors, stacked
from pipeline.redaction import redact
from pipeline.storage.artifacts import ArtifactError


@dataclass
class Results:
    """Each variant's scores by name, and by split its word errors if it is evaluated.

    `notes` say whose word errors could not be read, and why.
    """

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: dict[str, dict[str, WordErrors]] = field(default_factory=lambda: defaultdict(dict))
    notes: list[str] = field(default_factory=list)


def test_splits(configs: Sequence[Config]) -> tuple[str, ...]:
    """The test splits of all variants, each once."""
    return tuple(dict.fromkeys(name for config in configs for name in config.corpus.scored_splits))


def read_results(graph: Graph, configs: Sequence[Config]) -> Results:
    """The results of the variants, in the paper's order."""
    results = Results()
    for config in sorted(configs, key=lambda config: comparison.place(config.variant)):
        members = graph.members_of(config.variant)
        seeds: dict[int, list[Member]] = defaultdict(list)
        for member in members:
            seeds[member.config.training.seed].append(member)
        own = {member.name: _scores(member) for member in members}
        rows = {
            seed: over_folds([own[fold.name] for fold in folds]) for seed, folds in seeds.items()
        }
        for split in config.corpus.scored_splits:
            errors = _errors_of_seeds(seeds, split, config.variant, results.notes)
            if errors:
                results.errors[split][config.variant] = stacked(list(errors.values()))
            for seed, each in errors.items():
                rows[seed][f"{split}.wer"] = float(each.rates[0])
        results.rows[config.variant] = over_seeds(rows, _shared(list(seeds.values())))
        if len(seeds) < len(members):
            results.rows[config.variant] |= {
                f"{name}[{fold}]": value for fold, row in own.items() for name, value in row.items()
            }
    return results


def _scores(member: Member) -> dict[str, float]:
    return comparison.scores({name: node.artifact for name, node in member.nodes.items()})


def _shared(seeds: Sequence[Sequence[Member]]) -> set[str]:
    """The scores of stages that run once for all seeds."""
    keys = [{node.key for fold in folds for node in fold.nodes.values()} for folds in seeds]
    in_all, first = set.intersection(*keys), seeds[0][0]
    outputs = {name: node.artifact for name, node in first.nodes.items() if node.key in in_all}
    return set(comparison.scores(outputs))


def _errors_of_seeds(
    seeds: dict[int, list[Member]], split: str, variant: str, notes: list[str]
) -> dict[int, WordErrors]:
    """The word errors of each seed whose folds are all evaluated; none if any cannot be read."""
    try:
        found = {seed: _word_errors(folds, split) for seed, folds in seeds.items()}
    except (ArtifactError, pa.ArrowException) as error:
        notes.append(f"{split}: no interval and no p for {variant}: {redact(str(error))}.")
        return {}
    return {seed: errors for seed, errors in found.items() if errors is not None}


def _word_errors(folds: Sequence[Member], split: str) -> WordErrors | None:
    """The word errors of one seed, pooled over its folds; None if one is not evaluated."""
    read = []
    for fold in folds:
        scored, corpus = fold.nodes.get(f"evaluate_asr/{split}"), fold.nodes.get("prepare_corpus")
        if not scored or not corpus or not scored.artifact.is_complete():
            return None
        read.append(read_word_errors(scored.artifact, corpus.artifact, split))
    return pooled(read)
