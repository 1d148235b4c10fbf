"""Bounds of a box: forward through a network, and forms that go backward."""

import math
from fractions import Fraction

GRID = 2**100
ZERO, INFINITE = Fraction(0), Fraction(10) ** 400
EVERYTHING = -INFINITE, INFINITE


class Walk:
    """A box through a network; `known` narrows the boxes before its nonlinear nodes.

    What is known in a leaf is a dictionary of dictionaries of neurons, ReLUs and curves in
    depth-first order: `slopes`, `limits` (between which the neuron is) and `betas` (its multiplier,
    which is positive for a neuron above its lower limit). `tight` has a leaf for both bounds on a
    neuron; `cases` a list for a neuron of its bounds by cases, each a side and a leaf a case.
    """

    def __init__(self, network, box, method, known=None, tight=None, cases=None):
        self.method, self.box, self.known = method, box, known
        self.tight, self.cases = tight or {}, cases or {}
        self.boxes, self.neurons = [], []  # of the latter (node, box) each
        nodes, tail = network.nodes, len(network.nodes)
        while tail and nodes[tail - 1][0] in ("affine", "same"):
            tail -= 1
        self.head, self.tail = nodes[:tail], nodes[tail:]
        self.inner, self.records = self.forward(self.head, box, lambda form, _=None: top(form, box))
        _, self.tail_records = self.forward(self.tail, self.inner, None)

    def bound(self, form, leaf=None):
        form = self.back(self.tail, self.tail_records, form, leaf)
        bound = top(form, self.inner)
        if self.method != "ibp":
            bound = min(bound, top(self.back(self.head, self.records, form, leaf), self.box))
        return bound

    def forward(self, nodes, box, ask):
        records = []
        for index, node in enumerate(nodes):
            before, known = nodes[:index], list(records)

            def pull(form, leaf=None, before=before, known=known):
                return ask(self.back(before, known, form, leaf), leaf)

            box, record = self.step(node, box, pull)
            records.append(record)
        return box, records

    def step(self, node, box, pull):
        if node[0] == "same":
            return box, None
        if node[0] == "affine":
            return [
                (-top((negative(row), -b), box), top((dict(row), b), box))
                for row, b in zip(node[1], node[2], strict=True)
            ], None
        if node[0] == "sum":
            pairs = [self.forward(branch, box, pull) for branch in node[1]]
            sums = [
                tuple(map(sum, zip(*entry, strict=True)))
                for entry in zip(*(out for out, _ in pairs), strict=True)
            ]
            return sums, [records for _, records in pairs]
        if node[0] == "distance":
            out = []
            for centre, b in zip(node[1], node[2], strict=True):
                sides = [(low - w, high - w) for (low, high), w in zip(box, centre, strict=True)]
                near = sorted((max(low, -high, 0) for low, high in sides), reverse=True)
                far = sorted((max(abs(low), abs(high)) for low, high in sides), reverse=True)
                pairs = zip(node[3], near, far, strict=False)
                low, high = map(sum, zip(*((a * d, a * e) for a, d, e in pairs), strict=True))
                out.append((low + b, high + b))
            return out, out
        box = self.narrowed(box)
        bent = [low < high and (node[0] != "relu" or low <= 0 <= high) for low, high in box]
        box = self.refined(box, bent, pull)
        first = len(self.neurons)
        if node[0] == "relu":
            box = self.tightened(box, pull)
            out = [(max(low, node[1] * low), max(high, node[1] * high)) for low, high in box]
        elif node[0] == "curve":
            box = [(grid(low), -grid(-high)) for low, high in box]
            out = [(-node[1].largest(-1, ZERO, *b), node[1].largest(1, ZERO, *b)) for b in box]
        else:
            out = [(max(box[i][0] for i in w), max(box[i][1] for i in w)) for w in node[1]]
        self.boxes.append(box)
        if node[0] != "max":
            self.neurons += [(node, ends) for ends in box]
        return out, (box, first)

    def refined(self, box, unstable, pull):
        if self.method not in ("crown", "alpha-crown"):
            return box
        return [
            (
                max(low, -pull(({i: Fraction(-1)}, Fraction(0)))),
                min(high, pull(({i: Fraction(1)}, Fraction(0)))),
            )
            if unstable[i]
            else (low, high)
            for i, (low, high) in enumerate(box)
        ]

    def tightened(self, box, pull):
        first = len(self.neurons)
        found = list(box)
        for i, (low, high) in enumerate(box):
            if first + i in self.tight:
                under, over = self.tight[first + i]
                low = max(low, -pull(({i: Fraction(-1)}, Fraction(0)), under))
                found[i] = low, min(high, pull(({i: Fraction(1)}, Fraction(0)), over))
            for side, leaves in self.cases.get(first + i, ()):
                sign, (low, high) = Fraction(1 if side else -1), found[i]
                worst = max(pull(({i: sign}, Fraction(0)), leaf) for leaf in leaves)
                found[i] = (low, min(high, worst)) if side else (max(low, -worst), high)
        return found

    def narrowed(self, box):
        if self.known is None:
            return box
        known = self.known[len(self.boxes)]
        return [(max(a, c), min(b, d)) for (a, b), (c, d) in zip(box, known, strict=True)]

    def back(self, nodes, records, form, leaf=None):
        for node, record in zip(reversed(nodes), reversed(records), strict=True):
            rows, constant = form
            if node[0] == "affine":
                new = {}
                for j, r in rows.items():
                    constant += r * node[2][j]
                    for i, weight in node[1][j]:
                        new[i] = new.get(i, 0) + r * weight
                form = {i: r for i, r in new.items() if r}, constant
            elif node[0] == "sum":
                new = {}
                for branch, inner in zip(node[1], record, strict=True):
                    part, constant = self.back(branch, inner, (rows, constant), leaf)
                    for i, r in part.items():
                        new[i] = new.get(i, 0) + r
                form = new, constant
            elif node[0] == "distance":
                form = {}, top(form, record)
            elif node[0] in ("relu", "curve"):
                form = neurons_back(form, node, *record, leaf or {})
            elif node[0] == "max":
                form = max_back(form, node[1], record[0])
        return form


def top(form, box):
    """Largest value of a form over a box."""
    rows, constant = form
    return constant + sum((r * box[i][r > 0] for i, r in rows.items()), Fraction(0))


def negative(row):
    return {i: -weight for i, weight in row}


def neurons_back(form, node, box, first, leaf):
    line = relu_line if node[0] == "relu" else curve_line
    rows, constant = form
    limits, betas, found = leaf.get("limits", {}), leaf.get("betas", {}), {}
    for i, r in rows.items():
        slope, between = leaf.get("slopes", {}).get(first + i), limits.get(first + i, EVERYTHING)
        factor, lift = line(node[1], r, *box[i], slope, between)
        found[i] = r * factor
        constant += r * lift
    for i in range(len(box)):
        if beta := betas.get(first + i):
            found[i] = found.get(i, 0) + beta
            constant -= beta * limits[first + i][beta < 0]
    return {i: r for i, r in found.items() if r}, constant


def relu_line(a, r, low, high, slope, limits):
    if limits != EVERYTHING:
        return (1 if limits[0] == 0 else a), 0
    if low > 0 or high < 0 or low == high:
        return (1 if low > 0 else a), 0
    if r > 0:
        chord = grid((high - a * low) / (high - low))
        return chord, max((a - chord) * low, (1 - chord) * high)
    usual = Fraction(1) if high > -low else a
    return (usual if slope is None else min(max(grid(slope), a), Fraction(1))), 0


def curve_line(curve, r, low, high, slope, limits):
    side, box = (1 if r > 0 else -1), (max(low, limits[0]), min(high, limits[1]))
    slope = curve.usual(side, *box) if slope is None else grid(slope)
    return slope, side * curve.largest(side, slope, *box)


def max_back(form, windows, box):
    found, constant = {}, form[1]
    for j, r in form[0].items():
        window = windows[j]
        best = max(window, key=lambda i: box[i][0])  # the first of equals
        others = [box[i][1] for i in window if i != best]
        if r < 0 or box[best][0] >= max(others, default=-INFINITE):
            found[best] = found.get(best, 0) + r
        else:
            constant += r * max(box[i][1] for i in window)
    return found, constant


def grid(value):
    return Fraction(math.floor(value * GRID), GRID)
