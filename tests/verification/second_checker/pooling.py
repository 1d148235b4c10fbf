"""Networks with their max pooling as ReLUs."""

import math
from fractions import Fraction
from itertools import product

ONE, ZERO = Fraction(1), Fraction(0)


def affine(rows):
    return ("affine", rows, [ZERO] * len(rows), {})


def pools(nodes):
    return any(n[0] == "max" or (n[0] == "sum" and any(map(pools, n[1]))) for n in nodes)


def without_pooling(nodes, positive=False):
    """The nodes of a chain, and whether what they give is at least 0, as the input may be."""
    found = []
    for node in nodes:
        if node[0] == "max":
            assert positive or not any(map(sum, node[2]["padding"])), "zeros might win"
            found += as_relus(node[2])
        elif node[0] == "sum":
            pairs = [without_pooling(branch, positive) for branch in node[1]]
            found.append(("sum", [branch for branch, _ in pairs]))
            positive = all(sign for _, sign in pairs)
        else:
            found.append(node)
            positive = positive if node[0] == "same" else node == ("relu", ZERO)
    return found, positive


def as_relus(about):
    found, shape = [], list(about["in_shape"])
    for axis in (0, 1):
        count, stride, (left, right) = (about[n][axis] for n in ("size", "strides", "padding"))
        windows = (shape[axis] + left + right - count) // stride + 1
        out = [*shape[:axis], windows, *shape[axis + 1 :]]
        rows = []
        for place in product(*map(range, out)):
            for i in range(count):
                at = list(place)
                at[axis] = place[axis] * stride - left + i
                inside = 0 <= at[axis] < shape[axis]
                number = (at[0] * shape[1] + at[1]) * shape[2] + at[2]
                rows.append([(number, ONE)] if inside else [])
        found.append(affine(rows))
        shape = out
        while count > 1:
            found.append(one_round(math.prod(shape), count))
            count -= count // 2
    return found


def one_round(windows, count):
    """max(a, b) = b + max(a - b, 0) of the pairs of each window; an odd entry goes through."""
    odd, keep, differ, put = count % 2, [], [], []
    for first in range(0, windows * count, count):
        if odd:
            keep.append([(first, ONE)])
            put.append([])
        for a in range(first + odd, first + count, 2):
            keep.append([(a + 1, ONE)])
            put.append([(len(differ), ONE)])
            differ.append([(a, ONE), (a + 1, -ONE)])
    return ("sum", [[affine(keep)], [affine(differ), ("relu", ZERO), affine(put)]])
