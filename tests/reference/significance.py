"""Bootstrap and randomisation tests in plain Python: every case is looked at, nothing is sampled."""

import math
from collections import defaultdict
from fractions import Fraction
from itertools import combinations, product


def edges(values):
    """The least values that 2.5 % and 97.5 % of the values do not exceed."""
    ordered = sorted(values)
    return tuple(ordered[math.ceil(Fraction(k, 1000) * len(ordered)) - 1] for k in (25, 975))


def error_rates(draws, errors, words):
    """The pooled error rate of each round."""
    return [sum(errors[i] for i in drawn) / sum(words[i] for i in drawn) for drawn in draws]


def relative_reductions(draws, errors, base_errors):
    """The relative reduction of each round."""
    found = []
    for drawn in draws:
        base, other = (sum(counts[i] for i in drawn) for counts in (base_errors, errors))
        if base:
            found.append((base - other) / base)
        else:
            found.append(-math.inf if other else 0.0)
    return found


def distribution_of_sums(counts, speakers):
    """{sum of counts: probability} over all draws of speakers, then of utterances of each."""
    of_speaker = defaultdict(list)
    for count, speaker in zip(counts, speakers, strict=True):
        of_speaker[speaker].append(count)
    chances = defaultdict(Fraction)
    for drawn in product(of_speaker, repeat=len(of_speaker)):
        choices = [of_speaker[speaker] for speaker in drawn for _ in of_speaker[speaker]]
        share = Fraction(1, len(of_speaker) ** len(of_speaker) * math.prod(map(len, choices)))
        for picked in product(*choices):
            chances[sum(picked)] += share
    return dict(chances)


def distribution_of_means(counts_of_seeds, speakers):
    """The same for the mean over seeds, which are drawn too; `counts_of_seeds` is seeds x counts."""
    num = len(counts_of_seeds)
    chances = defaultdict(Fraction)
    for drawn in product(counts_of_seeds, repeat=num):
        totals = [sum(counts) for counts in zip(*drawn, strict=True)]
        for total, chance in distribution_of_sums(totals, speakers).items():
            chances[Fraction(total, num)] += chance / num**num
    return dict(chances)


def gap_edges(errors, base_errors, best_errors):
    """The edges of the share of the gap over rounds; one without a gap lies beyond both."""
    low, high = [], []
    for error, base, best in zip(errors, base_errors, best_errors, strict=True):
        share = (base - error) / (base - best) if base > best else None
        low.append(-math.inf if share is None else share)
        high.append(math.inf if share is None else share)
    return edges(low)[0], edges(high)[1]


def exact_relabel_p(errors, base_errors):
    """The share of all ways to deal trainings out after which the means differ at least as much."""
    everything = [*errors, *base_errors]

    def difference(chosen):
        rest = sum(everything) - sum(chosen)
        return abs(Fraction(sum(chosen), len(errors)) - Fraction(rest, len(base_errors)))

    as_far = [
        difference(chosen) >= difference(errors) for chosen in combinations(everything, len(errors))
    ]
    return sum(as_far) / len(as_far)


def exact_p(errors, base_errors):
    """The share of all 2^U swaps after which the systems differ at least as much as they do."""
    differences = [a - b for a, b in zip(errors, base_errors, strict=True)]
    as_far = [
        abs(sum(sign * each for sign, each in zip(signs, differences, strict=True)))
        >= abs(sum(differences))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(as_far) / len(as_far)
