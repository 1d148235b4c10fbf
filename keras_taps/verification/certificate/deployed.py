"""From the network of the reals to the one that runs: how far float32 outputs can be from it.

The bounds of the checker are about real arithmetic. A network runs in floating point, with sums in
whatever order and with or without fused multiply-add. For an output of n products that are not 0,

    |fl(W x + b) - (W x + b)| <= g(n + 2) (|W| |x| + |b|) + underflow,   g(k) = k u / (1 - k u),

(Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1; one rounding more than
there, for parameters such as 1 / 9 that the graph has in float64). So an error e before a layer and
magnitudes m of its real inputs give the error |W| e + g(n + 2) (|W| (m + e) + |b|) after it. What
is walked over is `graph.source`, the operations as the network has them, batch normalisation not
folded. The magnitudes come from boxes that the checker has proved.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from keras_taps.verification.certificate.curves import image
from keras_taps.verification.certificate.rounding import size_of
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.curves import Curve
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.nodes import Conv, Dense, Linear, MaxPool, Relu, Reshape, Scale

LARGEST = 2.0**127  # what is no larger does not overflow in float32
LOST = 2.0**-126  # a result or an operand below it may become 0
SURE = 2.0**-100  # what flushing adds to a variance and an epsilon is far below their rounding
ROUGH = 64  # more units of 1 + |x| + |f(x)| than an activation f is wrong by, on any backend
FEW = 16  # more roundings than a scale or a batch normalisation makes, its square root 4 of them
_UP = 1 + 1e-9  # above the rounding of the sums of numbers >= 0 here, themselves float64


@dataclass(frozen=True)
class Arithmetic:
    """The floating point in which a network runs.

    Args:
        unit: Unit roundoff of every operation; 2**-24 is float32.
        operands: Relative error of the operands of matrix products and convolutions before they are
            multiplied: 0, 2**-11 for TF32 and 2**-8 for bfloat16, both with sums in float32.
    """

    unit: float = 2.0**-24
    operands: float = 0.0

    def few(self, count):
        """Relative error of `count` roundings, infinite if there are too many for a bound."""
        share = count * self.unit
        return share / (1 - share) if share < 1 else math.inf

    def of(self, terms):
        """Relative errors of sums of so many products, an array, and a bias."""
        share = (terms + 2) * self.unit
        relative = np.where(share < 1, share / np.where(share < 1, 1 - share, 1), np.inf)
        return (1 + self.operands) ** 2 * (1 + relative) - 1


FLOAT32 = Arithmetic()


class DeployedNetwork:
    """A network as it runs, beside the graph of it that is verified.

    What is assumed: each operation is rounded to nearest or flushed to 0, a square root or its
    inverse is right to 4 units, an activation f other than a ReLU to 64 units of 1 + |x| + |f(x)|,
    and products and sums are those of the layers: no Winograd or FFT
    convolution, and TF32 or bfloat16 only if `arithmetic` says so.

    Args:
        graph: `Graph`.
        arithmetic: `Arithmetic`.

    Example:

    >>> graph = Graph((Dense(np.array([[1.0, -1.0]]), np.zeros(2)),))
    >>> box = np.array([0.25]), np.array([1.0])
    >>> error = DeployedNetwork(graph).margin_errors(*box, [], np.array([[-1.0, 1.0]]))
    >>> bool(6 * 2**-24 < error[0] < 7 * 2**-24)
    True

    References:
        Zombori et al., "Fooling a complete neural network verifier", 2021; Jia and Rinard,
        "Exploiting verified neural networks via floating point numerical error", 2021.
    """

    def __init__(self, graph, arithmetic=FLOAT32):
        self.graph = graph
        self.arithmetic = arithmetic
        self._absolutes = {}

    def holds(self, lower, upper, boxes, forms, bounds):
        """Whether bounds on margins leave room for all that the arithmetic can add to them.

        Args:
            lower: As in `margin_errors`, like the rest.
            upper: Array.
            boxes: List.
            forms: Array.
            bounds: Array `(n,)`, proved upper bounds of the forms, or one number for all.
        """
        with np.errstate(all="ignore"):
            worst = bounds + self.margin_errors(lower, upper, boxes, forms) * _UP
        return bool(np.all(worst < 0))

    def margin_errors(self, lower, upper, boxes, forms):
        """How much larger a form of the computed outputs can be than the form of the real ones.

        The forms themselves are not computed by anybody: classes are compared.

        Args:
            lower: Array of the shape of one input; inputs are numbers of the format in this box.
            upper: Array of the same shape.
            boxes: Pairs of arrays, proved bounds on the inputs of every ReLU and max pooling of the
                graph in depth-first order, as `Checker.bounds_and_boxes` gives them.
            forms: Array `(n, outputs)`.

        Returns:
            Array `(n,)`; infinite where a number was not finite or might overflow.
        """
        forms, boxes = np.asarray(forms, "float64"), iter(boxes)
        *before, last = self.graph.source
        with np.errstate(all="ignore"):
            error = np.zeros(self.graph.in_shape)
            size, error = self._through(before, size_of((lower, upper)), error, boxes)
            if isinstance(last, Dense):  # what the logits share of an error is lost in a margin
                own = self._own(last, size, error)
                found = np.abs(forms @ last.kernel.T) * _UP @ error + np.abs(forms) @ own
            else:
                _, error = self._step(last, size, error, boxes)
                found = np.abs(forms) @ error
            found = found * _UP
        return np.where(np.isfinite(found), found, np.inf)

    def _through(self, nodes, size, error, boxes):
        """Magnitudes and errors of the outputs of a chain, from those of its inputs."""
        for node in nodes:
            size, error = self._step(node, size, error, boxes)
            if not np.all(size + error < LARGEST):
                error = np.full_like(error, np.inf)
        return size, error

    def _step(self, node, size, error, boxes):
        if isinstance(node, Reshape):
            return size.reshape(node.out_shape), error.reshape(node.out_shape)
        if isinstance(node, Relu):
            return self._relu(node, size, error, *next(boxes))
        if isinstance(node, Curve):
            return self._curve(node, error, next(boxes))
        if isinstance(node, MaxPool):
            next(boxes)
            return tuple(node.windows(part[None])[0].max(-1) for part in (size, error))
        if isinstance(node, Distance):
            return self._distance(node, size, error)
        if isinstance(node, Linear):
            return self._linear(node, size, error)
        pairs = [self._through(branch, size, error, boxes) for branch in node.branches]
        size, error = (sum(part) for part in zip(*pairs, strict=True))
        error = error + self.arithmetic.few(len(pairs)) * (size + error) + len(pairs) * LOST
        return size * _UP, error * _UP

    def _relu(self, node, size, error, lower, upper):
        high = np.fmin(size, np.maximum(upper, 0.0))
        low = np.fmin(size, np.maximum(-lower, 0.0))
        if not node.slope:  # where no error lifts it above 0, the output is 0, and so computed
            error = np.where(np.isnan(upper), error, np.fmin(error, np.maximum(upper + error, 0)))
        if node.slope:  # a product with a slope that is rounded to the format
            error = error + self.arithmetic.few(3) * node.slope * (low + error) + LOST * (1 + size)
        return np.maximum(high, node.slope * low) * _UP, error * _UP

    def _curve(self, node, error, box):
        if node.known.foreign:  # nobody says how it is computed
            size = size_of(image(node, box))
            return size, np.full_like(size, np.inf)
        size, found = size_of(box), size_of(image(node, box))
        passed = node.steepest(box[1] + error) * error * _UP
        own = self.arithmetic.few(ROUGH) * (1 + size + error + found + passed) + LOST
        return found * _UP, (passed + own) * _UP

    def _distance(self, node, size, error):
        """Sorted sums move by at most their weights times the largest error of a difference."""
        weights = node.coefficients
        total, terms = weights.sum() * _UP, len(weights) + FEW
        reach = np.concatenate([(np.abs(rows) + size + error).max(-1) for rows in node.rows()])
        grown = total * reach + np.abs(node.bias)
        own = self.arithmetic.few(terms) * grown + LOST * terms * (2 + total)
        fits = (total < LARGEST) & (reach < LARGEST) & (grown < LARGEST)
        return grown * _UP, np.where(fits, total * error.max() + own, np.inf) * _UP

    def _linear(self, node, size, error):
        if getattr(node, "only_pads", False):
            return tuple(node.apply(part[None])[0] for part in (size, error))
        absolute, _, _ = self._absolute(node)
        grown = absolute.apply(size[None])[0] + np.abs(node.bias)
        passed = absolute.apply(error[None])[0]
        return grown * _UP, (passed + self._own(node, size, error)) * _UP

    def _own(self, node, size, error):
        """What the roundings of a node itself add to the error of its outputs."""
        absolute, sums, support = self._absolute(node)
        reach = (size + error) * _UP
        total = absolute.apply(reach[None])[0] + node.magnitude
        widest = max(float(reach.max()), 1.0)
        if isinstance(node, (Scale, BatchNorm)):
            relative, count = self.arithmetic.few(FEW), FEW
            widest = widest + getattr(node, "largest", 0.0)
        else:
            count = support.apply((reach > 0).astype("float64")[None])[0]
            relative = self.arithmetic.of(count)
        under = LOST * (2 * (count + 1) * (1 + widest) + sums)
        factors = absolute.scale if isinstance(absolute, Scale) else absolute.kernel
        fits = (total < LARGEST) & (widest < LARGEST) & (factors.max() < LARGEST)
        if isinstance(node, BatchNorm):
            # A gamma that is flushed, and `(x - mean) * inverse` before it is multiplied.
            lifted = node.inverse * (reach + np.abs(node.mean))
            under = under + LOST * lifted
            fits = fits & (lifted < LARGEST) & (node.variance + node.epsilon >= SURE)
        return np.where(fits, relative * total + under, np.inf) * _UP

    def _absolute(self, node):
        """The node with absolute coefficients, their sums for each output, and which are not 0."""
        if id(node) not in self._absolutes:  # the graph keeps its nodes, so ids stay theirs
            absolute, support = node.absolute(), None
            sums = absolute.apply(np.ones((1, *node.in_shape)))[0]
            if isinstance(node, (Dense, Conv)):
                support = replace(absolute, kernel=(node.kernel != 0).astype("float64"))
            self._absolutes[id(node)] = absolute, sums, support
        return self._absolutes[id(node)]
