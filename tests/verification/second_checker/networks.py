"""Networks as chains of nodes.

A node is ("affine", rows, bias, about), ("relu", slope), ("curve", curve, fields), ("max", windows,
fields), ("distance", centres, bias, coefficients), ("sum", chains) or ("same",).
"""

import copy
import hashlib
import json
import math
from fractions import Fraction
from itertools import product

from tests.verification.second_checker.curves import curve
from tests.verification.second_checker.files import as_hash, exact, read_arrays
from tests.verification.second_checker.pooling import pools, without_pooling


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

    def pools(self):
        return pools(self.nodes)

    def without_pooling(self):
        found = copy.copy(self)
        found.nodes, _ = without_pooling(self.nodes)
        return found

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

    def Curve(self, node, shape):
        return ("curve", curve(node["function"], Fraction(node["alpha"])), node), shape

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
        return ("max", windows, node), (tall, wide, channels)

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
