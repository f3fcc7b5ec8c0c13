"""The scores of a variant that was trained several times: means over seeds, and their spread."""

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev

SEEDS = "seeds"


def over_folds(folds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The scores of one seed: means over its folds, of the scores that every fold has."""
    first, *others = folds
    return {
        name: fmean(fold[name] for fold in folds)
        for name in first
        if all(name in other for other in others)
    }


def over_seeds(
    by_seed: Mapping[int, Mapping[str, float]], shared: Collection[str] = ()
) -> dict[str, float]:
    """The scores of one variant: those of its only seed, or over several seeds the following.

    - `test.wer`, the mean over the seeds that have the score, and `test.wer_num_seeds`, how many have
    - `test.wer_sd`, the standard deviation (n - 1) over them, if there are several
    - `test.wer[seed 1]`, the score of each
    - `seeds`, how many seeds the variant has

    Scores that are `shared` are of something that all seeds share: they have a value and no more.
    """
    first, *others = by_seed.values()
    if not others:
        return dict(first)
    names = dict.fromkeys(name for row in by_seed.values() for name in row)
    of_all = first.keys() & set(shared)
    found: dict[str, float] = {SEEDS: len(by_seed)}
    for name in names:
        of_seed = {
            seed: row[name]
            for seed, row in by_seed.items()
            if name in row and math.isfinite(row[name])
        }
        found |= {name: first[name]} if name in of_all else _spread(name, of_seed)
    return found


def _spread(name: str, of_seed: Mapping[int, float]) -> dict[str, float]:
    if not of_seed:
        return {}
    values = list(of_seed.values())
    spread = {f"{name}_sd": stdev(values)} if len(values) > 1 else {}
    each = {f"{name}[seed {seed}]": value for seed, value in of_seed.items()}
    return {name: fmean(values), f"{name}_num_seeds": len(values), **spread, **each}
