"""What the trainings of all variants have scored, as far as they are computed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import pyarrow as pa

from pipeline.config import Config
from pipeline.graph.graph import Graph, Member, load_stage
from pipeline.metrics import comparison, utterance_scores
from pipeline.metrics.seed_scores import over_folds, over_seeds
from pipeline.metrics.utterance_scores import ScoredUtterance
from pipeline.metrics.word_errors import WordErrors, pooled, read_word_errors, stacked
from pipeline.redaction import redact
from pipeline.storage.artifacts import ArtifactError

# Those that score speech utterance by utterance.
SPEECH_STAGES = ("evaluate_resynthesis", "judge_resynthesis", "bound_resynthesis")


@dataclass
class Results:
    """Each variant's scores by name, and by split its word errors if it is evaluated.

    `notes` say whose word errors could not be read, and why. `own` are the names of scores that no
    title is known for, of stages that configs add.
    """

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    errors: dict[str, dict[str, WordErrors]] = field(default_factory=lambda: defaultdict(dict))
    notes: list[str] = field(default_factory=list)
    own: set[str] = field(default_factory=set)


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
        of_members = {member.name: _scores(member) for member in members}
        rows = {
            seed: over_folds([of_members[fold.name] for fold in folds])
            for seed, folds in seeds.items()
        }
        results.own |= _own_scores(members[0])
        for split in config.corpus.scored_splits:
            errors = _errors_of_seeds(seeds, split, config.variant, results.notes)
            if errors:
                results.errors[split][config.variant] = stacked(list(errors.values()))
            for seed, each in errors.items():
                rows[seed][f"{split}.wer"] = float(each.rates[0])
        # Others than the first seed do not speak.
        first = next(iter(seeds))
        speech, edges = _speech_scores(seeds[first], config, results.notes)
        rows[first] |= speech
        results.rows[config.variant] = over_seeds(rows, _shared(list(seeds.values()))) | edges
        if len(seeds) < len(members):
            results.rows[config.variant] |= {
                f"{name}[{fold}]": value
                for fold, row in of_members.items()
                for name, value in row.items()
            }
    return results


def _scores(member: Member) -> dict[str, float]:
    return comparison.scores({name: node.artifact for name, node in member.nodes.items()})


def _own_scores(member: Member) -> set[str]:
    """The names of scores without a title, of the stages that the config adds."""
    added = {load_stage(module).name for module in member.config.extra_stages}
    if not added:
        return set()
    others = {n: node.artifact for n, node in member.nodes.items() if node.stage.name not in added}
    own = _scores(member).keys() - comparison.scores(others).keys()
    return {name for name in own if name.rpartition(".")[2] not in comparison.TITLED}


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


def _speech_scores(
    folds: Sequence[Member], config: Config, notes: list[str]
) -> tuple[dict[str, float], dict[str, float]]:
    """The scores of resynthesised speech, pooled over the folds of a seed, and their intervals."""
    totals: dict[str, float] = {}
    edges: dict[str, float] = {}
    for split, stage in product(config.corpus.scored_splits, SPEECH_STAGES):
        try:
            scored = _scored_speech(folds, f"{stage}/{split}")
        except (ArtifactError, pa.ArrowException) as error:
            notes.append(
                f"{split}: no interval of {stage} for {config.variant}: {redact(str(error))}."
            )
            continue
        found = utterance_scores.totals(scored), utterance_scores.intervals(scored)
        for scores, named in zip(found, (totals, edges), strict=True):
            named |= {f"{split}.{name}": value for name, value in scores.items()}
    return totals, edges


def _scored_speech(folds: Sequence[Member], name: str) -> list[ScoredUtterance]:
    """What a stage has stored of each utterance; nothing if a fold lacks its output."""
    nodes = [fold.nodes.get(name) for fold in folds]
    outputs = [node.artifact for node in nodes if node and node.artifact.is_complete()]
    if len(outputs) < len(folds):
        return []
    return [each for output in outputs for each in utterance_scores.read(output)]
