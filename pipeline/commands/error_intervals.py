"""How sure the variants' word error rates are: scores beside those of the stages, and what they mean.

They are computed anew from the stored hypotheses, and stored nowhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from pipeline.graph.graph import Graph
from pipeline.metrics.significance import ROUNDS
from pipeline.metrics.word_errors import WordErrors, read_word_errors, uncertainty
from pipeline.redaction import redact
from pipeline.storage.artifacts import ArtifactError

# In simulations the intervals of fewer hold the true rate clearly less often than they should.
FEW_SPEAKERS = 6

METHOD = (
    f"In brackets: 95 % intervals, from a bootstrap of {ROUNDS:,} rounds that draws speakers, then "
    f"utterances of each. p: approximate randomisation, two-sided, {ROUNDS:,} rounds that swap "
    "utterances."
)


@dataclass
class Intervals:
    """Scores by variant (`test.wer_low`, …), and what is to be said of them."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def error_intervals(
    graph: Graph, variants: Sequence[str], splits: Sequence[str], baseline: str
) -> Intervals:
    """What the hypotheses of the variants tell of the uncertainty of their WERs."""
    found = Intervals({variant: {} for variant in variants})
    for split in splits:
        errors = _read(graph, variants, split, found.notes)
        for variant, scores in uncertainty(errors, baseline).items():
            found.rows[variant] |= {f"{split}.{name}": score for name, score in scores.items()}
        found.notes += _notes(errors, split, baseline)
    if any(found.rows.values()):
        found.notes.insert(0, METHOD)
    return found


def _read(
    graph: Graph, variants: Sequence[str], split: str, notes: list[str]
) -> dict[str, WordErrors]:
    """The word errors of each variant that is evaluated; of the others, `notes` says why not."""
    errors = {}
    for variant in variants:
        members = graph.members_of(variant)
        if len(members) > 1:
            notes.append(
                f"{split}: no interval and no p for {variant}: it is trained several times."
            )
        if len(members) != 1:
            continue
        nodes = members[0].nodes
        scored, corpus = nodes.get(f"evaluate_asr/{split}"), nodes.get("prepare_corpus")
        if scored and corpus and scored.artifact.is_complete():
            try:
                errors[variant] = read_word_errors(scored.artifact, corpus.artifact, split)
            except (ArtifactError, pa.ArrowException) as error:
                notes.append(f"{split}: no interval and no p for {variant}: {redact(str(error))}.")
    return errors


def _notes(errors: dict[str, WordErrors], split: str, baseline: str) -> list[str]:
    """What makes figures of this split mean something else, or be missing."""
    notes = []
    fewest = min((each.num_speakers for each in errors.values()), default=FEW_SPEAKERS)
    if any(len(each.utterances) == 1 for each in errors.values()):
        notes.append(f"{split} has one utterance: no interval and no p.")
    elif fewest == 1:
        notes.append(
            f"{split} has one speaker: its intervals draw utterances alone, and say nothing of others."
        )
    elif fewest < FEW_SPEAKERS:
        notes.append(f"{split} has {fewest} speakers: for others its intervals are too narrow.")
    if baseline in errors:
        same = errors[baseline].utterances
        others = [name for name, each in errors.items() if each.utterances != same]
        if others:
            notes.append(
                f"{split}: no p, and no interval of the reduction, for {', '.join(others)}: scored "
                f"on other utterances than {baseline}."
            )
    return notes
