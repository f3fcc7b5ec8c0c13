"""Purity, PNMI and unit statistics over pairs of phone and unit, counted in dictionaries."""

import math
from collections import Counter


def phone_purity(pairs):
    most = {}
    for (_, unit), count in Counter(pairs).items():
        most[unit] = max(most.get(unit, 0), count)
    return sum(most.values()) / len(pairs)


def cluster_purity(pairs):
    most = {}
    for (phone, _), count in Counter(pairs).items():
        most[phone] = max(most.get(phone, 0), count)
    return sum(most.values()) / len(pairs)


def entropy(symbols):
    total = len(symbols)
    return sum(count / total * math.log(total / count) for count in Counter(symbols).values())


def pnmi(pairs):
    """I(p; u) = H(p) + H(u) - H(p, u), as a share of H(p)."""
    phones = [phone for phone, _ in pairs]
    units = [unit for _, unit in pairs]
    return (entropy(phones) + entropy(units) - entropy(pairs)) / entropy(phones)


def runs(units):
    """Each run of equal units as [unit, length]."""
    found = []
    for unit in units:
        if found and found[-1][0] == unit:
            found[-1][1] += 1
        else:
            found.append([unit, 1])
    return found


def joint_counts(utterances, silences):
    """Frames by label and unit: an utterance at a time, a frame at a time.

    Each of `utterances` has the segment of each frame (or None) and its unit; `silences` are the
    labels that count as "sil".
    """
    counts = Counter()
    for segments, units in utterances:
        labels = ["" if segment is None else segment.label for segment in segments]
        labels = ["sil" if label in silences else label for label in labels]
        counts.update(zip(labels, units, strict=True))
    return counts
