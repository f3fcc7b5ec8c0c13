"""ABX errors by loops over all triples of phones that consist of one unit each.

A phone is a dict with `phone`, `previous`, `next`, `speaker` and `unit`.
"""

from collections import defaultdict
from itertools import product


def mean(values):
    return sum(values) / len(values)


def triples(phones, across):
    for a, x in product(phones, phones):
        same_speaker = a["speaker"] == x["speaker"]
        if a is not x and a["phone"] == x["phone"] and same_speaker != across:
            for b in phones:
                if b["phone"] != a["phone"] and b["speaker"] == a["speaker"]:
                    yield a, b, x


def abx_error(phones, *, same_context, across):
    """Triples are averaged in cells, cells over contexts, then speakers, then pairs of phones."""
    cells = defaultdict(list)
    for a, b, x in triples(phones, across):
        contexts = {(p["previous"], p["next"]) for p in (a, b, x)}
        if not same_context:
            contexts = {None}
        if len(contexts) == 1:
            error = 0.5 * (1 + (x["unit"] != a["unit"]) - (x["unit"] != b["unit"]))
            cell = (a["phone"], b["phone"], a["speaker"], *contexts, x["speaker"])
            cells[cell].append(error)
    by_speaker, by_pair = defaultdict(list), defaultdict(list)
    for (phone, other, speaker, *_), errors in cells.items():
        by_speaker[phone, other, speaker].append(mean(errors))
    if not same_context:
        for (phone, other, *_), errors in cells.items():
            by_pair[phone, other].append(mean(errors))
    else:
        for (phone, other, _), errors in by_speaker.items():
            by_pair[phone, other].append(mean(errors))
    return mean([mean(errors) for errors in by_pair.values()])
