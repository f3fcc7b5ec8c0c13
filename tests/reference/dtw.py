"""Dynamic time warping, straight from its recursion."""

from functools import cache


def least_path(distances):
    """The least sum of distances on a path from one corner to the other, and how many it sums."""

    @cache
    def best(i, j):
        if i == j == 0:
            return distances[0][0], 1
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        total, length = min(best(*each) for each in before if min(each) >= 0)
        return total + distances[i][j], length + 1

    return best(len(distances) - 1, len(distances[0]) - 1)
