"""How sure the variants' word error rates are: scores beside those of the stages, and what they mean.

They are computed anew from the stored hypotheses, and stored nowhere.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.metrics.significance import ROUNDS
from pipeline.metrics.word_errors import WordErrors, uncertainty

# In simulations the intervals of fewer hold the true rate clearly less often than they should.
FEW_SPEAKERS = 6
FEW_SEEDS = 5

METHOD = (
    f"In brackets: 95 % intervals, from a bootstrap of {ROUNDS:,} rounds that draws each variant's "
    "seeds, the speakers, then utterances of each. p: approximate randomisation, two-sided, "
    f"{ROUNDS:,} rounds that swap utterances; it is about these speakers and these trainings."
)


@dataclass
class Intervals:
    """Scores by variant (`test.wer_low`, …), and what is to be said of them."""

    rows: dict[str, dict[str, float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def error_intervals(
    errors: Mapping[str, Mapping[str, WordErrors]], baseline: str, best: str | None
) -> Intervals:
    """What the word errors of each split and variant tell of the uncertainty of their WERs."""
    found = Intervals()
    for split, variants in errors.items():
        for variant, scores in uncertainty(variants, baseline, best).items():
            row = found.rows.setdefault(variant, {})
            row |= {f"{split}.{name}": score for name, score in scores.items()}
        found.notes += _notes(variants, split, baseline)
    if found.rows:
        found.notes = [METHOD, *_seed_notes(errors), *found.notes]
    return found


def _seed_notes(errors: Mapping[str, Mapping[str, WordErrors]]) -> list[str]:
    """Whose intervals come from too few trainings."""
    fewest: dict[str, int] = {}
    for variants in errors.values():
        for name, each in variants.items():
            fewest[name] = min(each.num_trainings, fewest.get(name, each.num_trainings))
    one = [name for name, number in fewest.items() if number == 1]
    few = [name for name, number in fewest.items() if 1 < number < FEW_SEEDS]
    notes = []
    if one:
        notes.append(
            f"One seed of {_named(one, fewest)}: the intervals say nothing of other seeds."
        )
    if few:
        notes.append(
            f"Fewer than {FEW_SEEDS} seeds of {_named(few, fewest)}: for others the intervals are "
            "too narrow."
        )
    return notes


def _named(variants: Sequence[str], among: Collection[str]) -> str:
    return "each variant" if len(variants) == len(among) > 1 else ", ".join(variants)


def _notes(errors: Mapping[str, WordErrors], split: str, baseline: str) -> list[str]:
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
