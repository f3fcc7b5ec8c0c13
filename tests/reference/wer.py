"""Edit distance between two sequences, straight from its definition."""

from functools import cache


def edit_distance(left, right):
    """The least number of substitutions, insertions and deletions from `left` to `right`."""

    @cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        replace = distance(i - 1, j - 1) + (left[i - 1] != right[j - 1])
        return min(replace, distance(i - 1, j) + 1, distance(i, j - 1) + 1)

    return distance(len(left), len(right))
