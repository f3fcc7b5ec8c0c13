"""Settings of trials, drawn by Ray Tune's random search."""

import json
from collections.abc import Iterator

import numpy as np
from ray import tune
from ray.tune.search.sample import Domain
from ray.tune.search.variant_generator import generate_variants

from pipeline.config.files import Settings
from pipeline.config.space import Range, Space
from pipeline.config.yaml_file import Node

# A space of few choices repeats itself: how many draws in a row may bring nothing new.
MOST_REPEATS = 1000
_DIGITS = 3


def draw(space: Space, number: int, seed: int) -> list[Settings]:
    """At most `number` settings that all differ; fewer where the space has no more.

    The first ones do not depend on how many follow.
    """
    found: dict[str, Settings] = {}
    repeats = 0
    for settings in _all_draws(space, seed):
        if len(found) == number or repeats == MOST_REPEATS:
            break
        known = len(found)
        plain = {key: node.plain() for key, node in settings.items()}
        found.setdefault(json.dumps(plain), settings)
        repeats = repeats + 1 if len(found) == known else 0
    return list(found.values())


def _all_draws(space: Space, seed: int) -> Iterator[Settings]:
    generator = np.random.default_rng(seed)
    domains = {key: _domain(domain) for key, domain in space.domains.items()}
    while True:
        [(_, drawn)] = generate_variants(domains, random_state=generator)
        yield {key: _node(domain, drawn[key]) for key, domain in space.domains.items()}


def _domain(domain: Range | tuple[Node, ...]) -> Domain:
    """What Ray Tune draws: a number, or that of a choice."""
    drawn: Domain
    if not isinstance(domain, Range):
        drawn = tune.choice(list(range(len(domain))))
    elif domain.is_whole:
        sample = tune.lograndint if domain.log else tune.randint
        drawn = sample(int(domain.low), int(domain.high) + 1)
    else:
        drawn = (tune.loguniform if domain.log else tune.uniform)(domain.low, domain.high)
    return drawn


def _node(domain: Range | tuple[Node, ...], drawn: float) -> Node:
    if not isinstance(domain, Range):
        return domain[int(drawn)]
    value = int(drawn) if domain.is_whole else float(f"{drawn:.{_DIGITS}g}")
    return Node(value, domain.place)
