"""A second checker of reports, in exact rational arithmetic and the standard library alone.

Written from docs/certificate-format.md, not from the code of the package, which it does not import.
Two liberties that the page allows: lower lines and chords are moved to multiples of 2**-100, which
keeps numbers short, and a square root is taken to 2**-200. Trees on networks with pooling are
beyond it.
"""

import ast
import hashlib
import json
import math
import struct
import zipfile
from fractions import Fraction
from itertools import product
from pathlib import Path

GRID = 2**100
MOST = 2**30
INFINITE = Fraction(10) ** 400
CODES = {"<f4": "f", "<f8": "d", "<i8": "q", "<i4": "i", "|u1": "B", "|b1": "?"}


# Files


def read_arrays(path):
    """Dictionary of `(type, shape, flat list)` of an `.npz` file."""
    found, room = {}, MOST
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                head = file.read(8)
                size = {1: "<H", 2: "<I"}[head[6]]
                assert head[:6] == b"\x93NUMPY"
                (length,) = struct.unpack(size, file.read(struct.calcsize(size)))
                about = ast.literal_eval(file.read(length).decode())
                kind, shape, count = about["descr"], about["shape"], math.prod(about["shape"])
                code = f"<{count}{CODES[kind]}" if kind in CODES else f"{4 * int(kind[2:])}s"
                room -= struct.calcsize(code)
                assert room >= 0
                assert not about["fortran_order"] or len(shape) < 2
                values = struct.unpack(code, file.read())
            if kind not in CODES:
                values = values[0].decode("utf-32-le").rstrip("\0")
            found[member.filename.removesuffix(".npy")] = kind, shape, values
    return found


def as_hash(kind, shape, values, line="\n"):
    digest = f"{kind} {list(shape)}{line}".encode()
    return digest + struct.pack(f"<{len(values)}{CODES[kind]}", *values)


def exact(values):
    return [Fraction(value) for value in values]


# Networks: chains of ("affine", rows, bias, about), ("relu", slope), ("max", windows), ("sum",
# chains) and ("same",).


class Network:
    def __init__(self, path):
        arrays = read_arrays(path)
        text = arrays.pop("structure")[2]
        about = json.loads(text)
        assert about["format"] == "keras_taps network 2"
        self.arrays = [arrays[f"array_{i}"] for i in range(len(arrays))]
        digest = hashlib.sha256(text.encode())
        for array in self.arrays:
            digest.update(as_hash(*array, line=""))
        self.hash = digest.hexdigest()
        self.shape = tuple(about["nodes"][0]["in_shape"]) if "in_shape" in about["nodes"][0] else ()
        self.nodes, out = self.chain(about["nodes"], self.shape or None)
        (self.outputs,) = out

    def chain(self, nodes, shape):
        found = []
        for node in nodes:
            if shape is None:
                shape = self.arrays[node["kernel"]["array"]][1][:1]
                self.shape = shape
            made, shape = getattr(self, node["kind"])(node, tuple(shape))
            found.append(made)
        return found, shape

    def values(self, node, name):
        _, shape, values = self.arrays[node[name]["array"]]
        return shape, exact(values)

    def Dense(self, node, shape):
        (n, m), kernel = self.values(node, "kernel")
        rows = [[(i, kernel[i * m + j]) for i in range(n)] for j in range(m)]
        bias = self.values(node, "bias")[1]
        return ("affine", rows, bias, {"terms": n, "magnitude": list(map(abs, bias))}), (m,)

    def Conv(self, node, shape):
        (h, w, c, o), kernel = self.values(node, "kernel")
        bias, (height, width, channels) = self.values(node, "bias")[1], shape
        (down, right), (dy, dx) = node["strides"], node["dilation"]
        (top, bottom), (left, end) = node["padding"]
        tall = (height + top + bottom - dy * (h - 1) - 1) // down + 1
        wide = (width + left + end - dx * (w - 1) - 1) // right + 1
        rows, all_bias = [], []
        for y, x, k in product(range(tall), range(wide), range(o)):
            row, first = [], k // (o // node["groups"]) * c
            for i, j, channel in product(range(h), range(w), range(c)):
                at, to = y * down + i * dy - top, x * right + j * dx - left
                if 0 <= at < height and 0 <= to < width:
                    place = (at * width + to) * channels + first + channel
                    row.append((place, kernel[((i * w + j) * c + channel) * o + k]))
            rows.append(row)
            all_bias.append(bias[k])
        pads = (h, w, c) == (1, 1, 1) and o == node["groups"] and down == right == 1
        pads = pads and set(kernel) == {1} and set(bias) == {0}
        about = {"terms": h * w * c, "magnitude": list(map(abs, all_bias)), "pads": pads}
        return ("affine", rows, all_bias, about), (tall, wide, o)

    def spread(self, values, inside, shape):
        """An array that broadcasts, for every entry."""
        inside = (1,) * (len(shape) - len(inside)) + tuple(inside)
        found = []
        for place in product(*map(range, shape)):
            at = 0
            for position, length in zip(place, inside, strict=True):
                at = at * length + (position if length > 1 else 0)
            found.append(values[at])
        return found

    def elementwise(self, scale, bias, magnitude, shape, extra=Fraction(0)):
        rows = [[(i, value)] for i, value in enumerate(scale)]
        return ("affine", rows, bias, {"few": 16, "magnitude": magnitude, "extra": extra}), shape

    def Scale(self, node, shape):
        scale, bias = (
            self.spread(values, inside, shape)
            for inside, values in (self.values(node, "scale"), self.values(node, "bias"))
        )
        return self.elementwise(scale, bias, list(map(abs, bias)), shape)

    def BatchNorm(self, node, shape):
        names = ("gamma", "beta", "mean", "variance")
        gamma, beta, mean, variance = (self.values(node, name)[1] for name in names)
        epsilon = Fraction(node["epsilon"])
        inverse = [1 / root(v + epsilon) for v in variance]
        scale = [g * i for g, i in zip(gamma, inverse, strict=True)]
        shift = [m * s for m, s in zip(mean, scale, strict=True)]
        bias = [b - s for b, s in zip(beta, shift, strict=True)]
        magnitude = [abs(b) + abs(s) for b, s in zip(beta, shift, strict=True)]
        largest = max(map(abs, gamma + mean + variance + inverse + scale + magnitude)) + epsilon
        spread = [self.spread(v, (len(v),), shape) for v in (scale, bias, magnitude)]
        node, out = self.elementwise(*spread, shape, largest)
        lift = [self.spread(v, (len(v),), shape) for v in (inverse, list(map(abs, mean)))]
        node[3]["lift"] = list(zip(*lift, strict=True))
        node[3]["sure"] = min(variance) + epsilon >= Fraction(2) ** -100
        return node, out

    def Reshape(self, node, shape):
        return ("same",), tuple(node["out_shape"])

    def Relu(self, node, shape):
        return ("relu", Fraction(node["slope"])), shape

    def MaxPool(self, node, shape):
        height, width, channels = shape
        (h, w), (down, right) = node["size"], node["strides"]
        (top, bottom), (left, end) = node["padding"]
        tall, wide = (height + top + bottom - h) // down + 1, (width + left + end - w) // right + 1
        windows = []
        for y, x, k in product(range(tall), range(wide), range(channels)):
            places = product(
                range(y * down - top, y * down - top + h),
                range(x * right - left, x * right - left + w),
            )
            inside = [(i, j) for i, j in places if 0 <= i < height and 0 <= j < width]
            windows.append([(i * width + j) * channels + k for i, j in inside])
        return ("max", windows), (tall, wide, channels)

    def Distance(self, node, shape):
        (n, m), kernel = self.values(node, "kernel")
        centres = [[kernel[i * m + j] for i in range(n)] for j in range(m)]
        bias, weights = (self.values(node, name)[1] for name in ("bias", "coefficients"))
        return ("distance", centres, bias, weights), (m,)

    def Sum(self, node, shape):
        pairs = [self.chain(branch, shape) for branch in node["branches"]]
        return ("sum", [chain for chain, _ in pairs]), pairs[0][1]


def root(value):
    scale = 2**400
    return Fraction(math.isqrt(value.numerator * scale // value.denominator), 2**200)


def grid(value):
    return Fraction(math.floor(value * GRID), GRID)


# Bounds


class Walk:
    """A box through a network; `known` narrows the boxes of its ReLUs.

    `tight` has the slopes for both bounds on a neuron, each a dictionary of neurons; `cases` a list
    for a neuron of its bounds by cases, each a side and what is known in the cases.
    """

    def __init__(self, network, box, method, known=None, tight=None, cases=None):
        self.method, self.box, self.known = method, box, known
        self.tight, self.cases = tight or {}, cases or {}
        self.boxes, self.relus = [], []
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
        if node[0] == "relu":
            box = self.narrowed(box)
            box = self.refined(box, [low < 0 < high for low, high in box], pull)
            box = self.tightened(box, pull)
            self.boxes.append(box)
            a, first = node[1], sum(size for size, *_ in self.relus)
            self.relus.append((len(box), a, box))
            return [(max(low, a * low), max(high, a * high)) for low, high in box], (box, first)
        box = self.narrowed(box)
        box = self.refined(box, [low < high for low, high in box], pull)
        self.boxes.append(box)
        out = [(max(box[i][0] for i in w), max(box[i][1] for i in w)) for w in node[1]]
        return out, box

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
        first = sum(size for size, *_ in self.relus)
        found = list(box)
        for i, (low, high) in enumerate(box):
            if first + i in self.tight:
                under, over = ({"slopes": slopes} for slopes in self.tight[first + i])
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
            elif node[0] == "relu":
                form = relu_back(form, node[1], *record, leaf or {})
            elif node[0] == "max":
                form = max_back(form, node[1], record)
        return form


def top(form, box):
    """Largest value of a form over a box."""
    rows, constant = form
    return constant + sum((r * box[i][r > 0] for i, r in rows.items()), Fraction(0))


def negative(row):
    return {i: -weight for i, weight in row}


def relu_back(form, a, box, first, leaf):
    rows, constant = form
    found = {}
    for i, r in rows.items():
        (low, high), neuron = box[i], first + i
        sign, slope = leaf.get("signs", {}).get(neuron, 0), leaf.get("slopes", {}).get(neuron)
        if sign:
            found[i] = r * (1 if sign > 0 else a)
        elif low >= 0 or high <= 0:
            found[i] = r * (1 if low >= 0 else a)
        elif r > 0:
            chord = grid((high - a * low) / (high - low))
            found[i] = r * chord
            constant += r * max((a - chord) * low, (1 - chord) * high)
        else:
            usual = Fraction(1) if high > -low else a
            found[i] = r * (usual if slope is None else min(max(grid(slope), a), Fraction(1)))
    for neuron, beta in leaf.get("betas", {}).items():
        if first <= neuron < first + len(box):
            sign = leaf["signs"][neuron]
            found[neuron - first] = found.get(neuron - first, 0) + sign * beta
    return {i: r for i, r in found.items() if r}, constant


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


# Trees


def tree_bounds(walk, form_of, arrays, forms):
    """Bounds of the forms that have trees."""
    found, number = {}, 0
    while f"tree{number}_preorder" in arrays:
        own = {
            n.removeprefix(f"tree{number}_"): a
            for n, a in arrays.items()
            if n.startswith(f"tree{number}_")
        }
        group = own["group"][2][0]
        bound = max(leaf_bound(walk, form_of(group), leaf) for leaf in leaves(own, walk))
        found[group] = min(found.get(group, INFINITE), bound)
        number += 1
    assert all(0 <= group < forms for group in found)
    return found


def leaves(own, walk):
    """Dictionaries: signs, slopes, betas, mix of each leaf."""
    neurons, preorder = (own[name][2] for name in ("neurons", "preorder"))
    kinks = [a for size, a, *_ in walk.relus for _ in range(size)]
    assert len(set(neurons)) == len(neurons)
    waiting, count, beta_at = [()], 0, 0
    for neuron in preorder:
        path = waiting.pop()
        if neuron != -1:
            assert neuron in neurons
            assert neuron not in dict(path)
            waiting += [(*path, (neuron, 1)), (*path, (neuron, -1))]
            continue
        levels = own["slopes"][2][count * len(neurons) : (count + 1) * len(neurons)]
        slopes = {
            n: kinks[n] + (1 - kinks[n]) * Fraction(q, 255)
            for n, q in zip(neurons, levels, strict=True)
        }
        betas = exact(own["betas"][2][beta_at : beta_at + len(path)])
        yield {
            "signs": dict(path),
            "slopes": slopes,
            "betas": {n: b for (n, _), b in zip(path, betas, strict=True) if b > 0},
            "mix": max(Fraction(own["mix"][2][count]), Fraction(0)),
        }
        count, beta_at = count + 1, beta_at + len(path)
    assert not waiting
    assert count == own["slopes"][1][0] == own["mix"][1][0]
    assert own["mix"][1][1] == 1


def leaf_bound(walk, form, leaf):
    place = 0
    for size, _, box in walk.relus:
        for i, (low, high) in enumerate(box):
            sign = leaf["signs"].get(place + i, 0)
            if (sign < 0 and low > 0) or (sign > 0 and high < 0):
                return -INFINITE
        place += size
    rows, constant = form
    mixed = {i: r * leaf["mix"] for i, r in rows.items()}, constant * leaf["mix"]
    bound = walk.bound(mixed, leaf)
    return bound / max(leaf["mix"], 1) if bound < 0 else bound


# float32

U, TINY, LARGEST = Fraction(1, 2**24), Fraction(1, 2**126), Fraction(2) ** 127


def g(k):
    return k * U / (1 - k * U)


def errors(network, box, boxes, forms):
    """What float32 may add to each form of the outputs."""
    boxes = iter(boxes)
    m = [max(abs(low), abs(high)) for low, high in box]
    before, last = network.nodes[:-1], network.nodes[-1]
    m, e = through(before, m, [Fraction(0)] * len(m), boxes)
    found = []
    if last[0] == "affine" and "terms" in last[3]:
        own = own_error(last, m, e)
        for rows, _ in forms:
            passed = {}
            for j, r in rows.items():
                for i, weight in last[1][j]:
                    passed[i] = passed.get(i, 0) + r * weight
            found.append(
                sum(abs(w) * e[i] for i, w in passed.items())
                + sum(abs(r) * own[j] for j, r in rows.items())
            )
        return found
    m, e = through([last], m, e, boxes)
    return [sum(abs(r) * e[j] for j, r in rows.items()) for rows, _ in forms]


def through(nodes, m, e, boxes):
    for node in nodes:
        if node[0] == "affine":
            if not node[3].get("pads"):
                own = own_error(node, m, e)
                passed = [sum(abs(w) * e[i] for i, w in row) for row in node[1]]
                e_new = [p + o for p, o in zip(passed, own, strict=True)]
                m = [
                    sum(abs(w) * m[i] for i, w in row) + abs(b)
                    for row, b in zip(node[1], node[2], strict=True)
                ]
                e = e_new
            else:
                m, e = ([sum(w * v[i] for i, w in row) for row in node[1]] for v in (m, e))
        elif node[0] == "relu":
            a, box = node[1], next(boxes)
            high = [min(v, max(u, 0)) for v, (_, u) in zip(m, box, strict=True)]
            low = [min(v, max(-b, 0)) for v, (b, _) in zip(m, box, strict=True)]
            if not a:
                e = [min(v, max(u + v, 0)) for v, (_, u) in zip(e, box, strict=True)]
            else:
                e = [
                    v + a * g(3) * (w + v) + TINY * (1 + s)
                    for v, w, s in zip(e, low, m, strict=True)
                ]
            m = [max(h, a * w) for h, w in zip(high, low, strict=True)]
        elif node[0] == "distance":
            share, k = sum(node[3]), len(node[3]) + 16
            moved = [a + b for a, b in zip(m, e, strict=True)]
            reach = [max(abs(w) + s for w, s in zip(c, moved, strict=True)) for c in node[1]]
            fits = max(share, *reach) < LARGEST
            reach = [share * r + abs(b) for r, b in zip(reach, node[2], strict=True)]
            largest = share * max(e) if fits else INFINITE
            m, e = reach, [largest + g(k) * r + TINY * k * (2 + share) for r in reach]
        elif node[0] == "max":
            next(boxes)
            m, e = ([max(v[i] for i in window) for window in node[1]] for v in (m, e))
        elif node[0] == "sum":
            pairs = [through(branch, m, e, boxes) for branch in node[1]]
            m, e = ([sum(v) for v in zip(*side, strict=True)] for side in zip(*pairs, strict=True))
            e = [v + g(len(pairs)) * (s + v) + len(pairs) * TINY for s, v in zip(m, e, strict=True)]
        if any(a + b >= LARGEST for a, b in zip(m, e, strict=True)):
            e = [INFINITE] * len(e)
    return m, e


def own_error(node, m, e):
    about = node[3]
    reach = [a + b for a, b in zip(m, e, strict=True)]
    widest = max([Fraction(1), *reach]) + about.get("extra", 0)
    factor = max(abs(w) for row in node[1] for _, w in row)
    found = []
    for place, (row, magnitude) in enumerate(zip(node[1], about["magnitude"], strict=True)):
        total = sum(abs(w) * reach[i] for i, w in row) + magnitude
        count = sum(1 for i, w in row if w and reach[i]) if "terms" in about else 16
        relative = g(count + 2) if "terms" in about else g(16)
        under = TINY * (2 * (count + 1) * (1 + widest) + sum(abs(w) for _, w in row))
        inverse, mean = about["lift"][place] if "lift" in about else (0, 0)
        lifted = inverse * (reach[place] + mean) if inverse else 0
        under += TINY * lifted
        fits = max(total, widest, lifted, factor) < LARGEST and about.get("sure", True)
        found.append(relative * total + under if fits else INFINITE)
    return found


# Reports


def broadcast(value, shape):
    """What a number, or nested lists, say of each entry of an array, in row-major order."""
    depth, part = 0, value
    while isinstance(part, list):
        depth, part = depth + 1, part[0]
    found = []
    for place in product(*map(range, shape)):
        part = value
        for i in place[len(shape) - depth :]:
            part = part[i if len(part) > 1 else 0]
        found.append(part)
    return found


def tightening(arrays, relus):
    """For each neuron that is asked again the factors of the neurons before, for both bounds."""
    asked, columns = (arrays[f"box_{name}"][2] for name in ("asked", "columns"))
    kinks = [slope for size, slope, *_ in relus for _ in range(size)]
    for numbers in (asked, columns):
        assert list(numbers) == sorted(set(numbers))
        assert all(0 <= number < len(kinks) for number in numbers)
    _, shape, levels = arrays["box_slopes"]
    assert tuple(shape) == (len(asked), 2, len(columns))
    values = iter(levels)

    def row():
        given = [(c, next(values)) for c in columns]
        return {c: kinks[c] + (1 - kinks[c]) * Fraction(q, 255) for c, q in given}

    return {neuron: (row(), row()) for neuron in asked}


def by_cases(arrays, relus):
    """For each neuron its bounds by cases: the side, and slopes, signs and betas of every case."""
    asked, sides, columns = (arrays[n][2] for n in ("case_asked", "case_sides", "box_columns"))
    kinks = [slope for size, slope, *_ in relus for _ in range(size)]
    _, (rows, most), splits = arrays["case_splits"]
    assert rows == len(asked) == len(sides)
    assert list(asked) == sorted(asked)
    assert most <= 12
    levels, betas, found, count = iter(arrays["case_slopes"][2]), arrays["case_betas"][2], {}, 0
    for row, (neuron, side) in enumerate(zip(asked, sides, strict=True)):
        known = [n for n in splits[row * most : (row + 1) * most] if n >= 0]
        assert list(splits[row * most : row * most + len(known)]) == known
        leaves = []
        for case in range(2 ** len(known)):
            slopes = {c: kinks[c] + (1 - kinks[c]) * Fraction(next(levels), 255) for c in columns}
            own = betas[count * most :]
            leaf = {"slopes": slopes, "signs": {}, "betas": {}}
            for i, split in enumerate(known):
                leaf["signs"][split] = 1 if case >> i & 1 else -1
                given = Fraction(own[i]) if math.isfinite(own[i]) else Fraction(0)
                leaf["betas"][split] = max(given, Fraction(0))
            leaves.append(leaf)
            count += 1
        found.setdefault(neuron, []).append((side, leaves))
    assert arrays["case_slopes"][1] == (count, len(columns))
    assert arrays["case_betas"][1] == (count, most)
    return found


class Report:
    """The records of a report, and what becomes of each."""

    def __init__(self, path):
        lines = Path(path).read_text().split("\n")[:-1]
        self.header, *self.records = map(json.loads, lines)
        assert self.header["format"] == "keras_taps certification report 4"
        self.files = Path(path).with_name(Path(path).stem + ".files")
        self.network = Network(self.files / "network.npz")
        assert self.network.hash == self.header["network"]

    def margins(self, label):
        others = (i for i in range(self.network.outputs) if i != label)
        return [({i: Fraction(1), label: Fraction(-1)}, Fraction(0)) for i in others]

    def radius(self, record):
        """What the header says, or the record if that says nothing."""
        assert ("eps" in record) == (self.header["eps"] is None)
        return record.get("eps", self.header["eps"])

    def of_each_entry(self, record, shape):
        """Radius and the two ends of the domain, for each entry of an input."""
        low, high = self.header["domain"]
        for value, nothing in ((self.radius(record), None), (low, -INFINITE), (high, INFINITE)):
            yield [nothing if v is None else Fraction(v) for v in broadcast(value, shape)]

    def look(self, record):
        """`(verdict, deployed, bound)` of what holds; the verdict is `None` if nothing does."""
        kind = {"certified": "certificate", "falsified": "counterexample"}.get(
            record["verdict"], "image"
        )
        arrays = read_arrays(self.files / f"{kind}-{record['index']:06d}.npz")
        assert hashlib.sha256(as_hash(*arrays["x"])).hexdigest() == record["input"]
        assert arrays["label"][2][0] == record["label"]
        kind, shape, values = arrays["eps"]
        assert list(values) == broadcast(self.radius(record), shape)
        x = exact(arrays["x"][2])
        eps, low, high = self.of_each_entry(record, arrays["x"][1])
        assert all(a <= value <= b for a, value, b in zip(low, x, high, strict=True))
        point = [(value, value) for value in x]
        at = Walk(self.network, point, "ibp")
        forms = self.margins(record["predicted"])
        given = zip(forms, errors(self.network, point, at.boxes, forms), strict=True)
        lowest = [(-at.bound(({i: -r for i, r in rows.items()}, -c)), e) for (rows, c), e in given]
        if any(low > 0 for low, _ in lowest):
            assert all(low <= error for low, error in lowest)
            return None, False, None
        forms = self.margins(record["label"])
        radii = zip(x, eps, low, high, strict=True)
        box = [(max(value - r, a), min(value + r, b)) for value, r, a, b in radii]
        if record["verdict"] == "falsified":
            there = exact(arrays["point"][2])
            assert all(low <= value <= high for value, (low, high) in zip(there, box, strict=True))
            walk = Walk(self.network, [(value, value) for value in there], "ibp")
            return ("falsified" if max(map(walk.bound, forms)) >= 0 else None), False, None
        if record["verdict"] != "certified":
            return record["verdict"], False, None
        bounds, boxes = self.bounds(box, forms, arrays)
        error = errors(self.network, box, boxes, forms)
        deployed = all(bound + e < 0 for bound, e in zip(bounds, error, strict=True))
        return ("certified" if max(bounds) < 0 else None), deployed, max(bounds)

    def bounds(self, box, forms, arrays):
        method = arrays["method"][2]
        walk = Walk(self.network, box, "crown" if method == "bab" else method)
        if "box_asked" in arrays and method in ("alpha-crown", "bab"):
            tight = tightening(arrays, walk.relus)
            cases = by_cases(arrays, walk.relus) if "case_asked" in arrays else None
            walk = Walk(self.network, box, "given", walk.boxes, tight, cases)
        slopes = [{} for _ in forms]
        if "slopes" in arrays and method in ("alpha-crown", "bab"):
            _, (count, neurons), values = arrays["slopes"]
            assert count == len(forms)
            assert neurons == sum(size for size, *_ in walk.relus)
            for number, own in enumerate(slopes):
                row = values[number * neurons : (number + 1) * neurons]
                own.update({i: Fraction(v) for i, v in enumerate(row) if not math.isnan(v)})
        found = [walk.bound(form, {"slopes": own}) for form, own in zip(forms, slopes, strict=True)]
        if method == "bab":
            grown = tree_bounds(walk, forms.__getitem__, arrays, len(forms))
            found = [min(b, grown.get(i, INFINITE)) for i, b in enumerate(found)]
        return found, walk.boxes
