"""Smooth activations at rational numbers, and the lines above and below them.

Values lie between two multiples of 2**-PLACES, by series whose remainder is written beside. Where a
curve bends one way the largest value of f(x) - s x is found by halving.
"""

import math
from fractions import Fraction
from functools import cache
from itertools import pairwise

PLACES = 140
ONE = 2**PLACES


class Between:
    """Two whole numbers of 2**-PLACES with a number between them."""

    def __init__(self, low, high):
        self.low, self.high = low, high

    def __add__(self, other):
        other = between(other)
        return Between(self.low + other.low, self.high + other.high)

    def __neg__(self):
        return Between(-self.high, -self.low)

    def __sub__(self, other):
        return self + -between(other)

    def __mul__(self, other):
        other = between(other)
        ends = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Between(min(ends) >> PLACES, -(-max(ends) >> PLACES))

    def inverse(self):
        assert self.low > 0
        return Between(ONE * ONE // self.high, -(-ONE * ONE // self.low))

    def ends(self):
        return Fraction(self.low, ONE), Fraction(self.high, ONE)

    def sign(self):
        return (self.low > 0) - (self.high < 0)


def between(value):
    if isinstance(value, Between):
        return value
    up, down = value.numerator << PLACES, value.denominator
    return Between(up // down, -(-up // down))


@cache
def exp(x):
    if x < 0:
        return exp(-x).inverse() if x > -PLACES else Between(0, 1)
    halvings = math.ceil(x).bit_length() + 8
    part = between(Fraction(x) / 2**halvings)  # at most 2**-8
    term = total = between(1)
    for n in range(1, 16):
        term = Between(term.low * part.low // (n * ONE), -(-term.high * part.high // (n * ONE)))
        total += term
    total += Between(0, term.high)  # what follows is below the last term
    for _ in range(halvings):
        total = Between(total.low**2 >> PLACES, -(-(total.high**2) >> PLACES))
    return total


def sigmoid(x):
    side = (exp(-abs(x)) + 1).inverse()
    return side if x >= 0 else -side + 1


def tanh(x):
    return sigmoid(2 * x) * 2 - 1


def softplus(x):
    """max(x, 0) + ln(1 + y), the latter as 2 artanh(w) with w at most 1/3."""
    y = exp(-abs(x))
    w = y * (y + 2).inverse()
    power = total = w
    for n in range(3, 92, 2):
        power *= w * w
        total += power * Fraction(1, n)
    return (total + Between(0, power.high)) * 2 + max(x, 0)  # what follows is below the power


def softsign(x):
    return between(x / (1 + abs(x)))


PI = Fraction(314159265358979323846264338327950288419716939937510, 10**50)  # and some 1e-50 more
ROOT = math.isqrt(int(2 * PI * ONE * ONE))
INVERSE = Between(ROOT, ROOT + 2).inverse()  # 1 / sqrt(2 pi)


def density(x):
    return exp(-x * x / 2) * INVERSE


def normal(x):
    """1/2 + (x + x^3 / 3 + x^5 / (3 5) + ...) / (sqrt(2 pi) exp(x^2 / 2)) for x >= 0."""
    if x < 0:
        return -normal(-x) + 1
    if x > 14:  # exp(-x^2 / 2) is below 2**-PLACES
        return Between(ONE - 1, ONE)
    term, n, square = between(x), 1, between(x * x)
    total = term
    while n < 2 * x * x or term.high > 1:
        n += 2
        term = term * square * Fraction(1, n)
        total += term
    total += Between(0, 2 * term.high)  # each that follows is below half of the one before
    return total * exp(x * x / 2).inverse() * INVERSE + Fraction(1, 2)


def halved(sign, low, high, places):
    """Two ends around the number where a sign changes from 1 to -1; it is 0 where nobody knows."""
    while high - low > Fraction(1, 2**places):
        middle = (low + high) / 2
        found = sign(middle)
        if not found:
            break
        low, high = (middle, high) if found > 0 else (low, middle)
    return low, high


class Curve:
    """A function, its slope, how its pieces bend: as a cup (1), not (0) or as a cap (-1), the
    turning points between them, as two numbers with the point between, and the largest slope up to
    a number, at least 1."""

    def __init__(self, value, slope, bends, turns=(), steepest=lambda high: Fraction(1)):
        self.value, self.slope, self.bends, self.turns = cache(value), cache(slope), bends, turns
        self.steepest = steepest
        self.largest, self.usual = cache(self.largest), cache(self.usual)

    def pieces(self, low, high):
        """Ends and bend of each piece of a box; around a turning point the bend is `None`."""
        ends = [low, *(end for turn in self.turns for end in turn), high]
        bends = [self.bends[0], *(b for bend in self.bends[1:] for b in (None, bend))]
        for (a, b), bend in zip(pairwise(ends), bends, strict=True):
            if max(a, low) < min(b, high):
                yield max(a, low), min(b, high), bend

    def above(self, side, slope, x):
        return (self.value(x) - slope * x) * side

    def largest(self, side, slope, low, high):
        """No less than side (f(x) - slope x) in a box."""
        found = [self.above(side, slope, x).high for x in (low, high)]
        for a, b, bend in self.pieces(low, high):
            rest, found = Fraction(0), [*found, *(self.above(side, slope, x).high for x in (a, b))]
            if bend is None:
                rest = (2 + abs(slope)) * (b - a)  # slopes are below 2 where turns are irrational
            elif bend * side < 0:
                a, b = halved(lambda x: ((self.slope(x) - slope) * side).sign(), a, b, 50)
                rise = self.slope((a + b) / 2) - slope
                rest = Fraction(max(rise.high, -rise.low), ONE) * (b - a)
            found.append((self.above(side, slope, (a + b) / 2) + rest).high)
        return Fraction(max(found), ONE)

    def usual(self, side, low, high):
        """The slope whose line is nearest to the curve in the middle."""
        middle = (low + high) / 2
        found = [self.slope(middle)] + ([self.chord(low, high)] if low < high else [])
        for a, b, bend in self.pieces(low, high):
            if bend is not None and bend * side < 0:
                found += [self.tangent(low, side, a, b), self.tangent(high, -side, a, b)]
        found = [Fraction(slope.low, ONE) for slope in found]
        return min(found, key=lambda s: self.largest(side, s, low, high) + side * s * middle)

    def tangent(self, end, sign, a, b):
        """Slope of a piece where its tangent begins to pass an end of the box on this side."""

        def passed(t):
            there = self.value(t) + self.slope(t) * (end - t)
            return (there - self.value(end)).sign() * sign >= 0

        if passed(a) or not passed(b):
            return self.slope(a if passed(a) else b)
        for _ in range(30):
            middle = (a + b) / 2
            a, b = (a, middle) if passed(middle) else (middle, b)
        return self.slope(b)

    def chord(self, low, high):
        return (self.value(high) - self.value(low)) * (1 / (high - low))

    def range(self, low, high):
        """Least and largest slope of the lines of a tree."""
        inside = [a for a, _ in self.turns if low < a < high]
        found = [*map(self.slope, (low, high, *inside))]
        found += [self.chord(low, high)] if low < high else []
        return Fraction(min(s.low for s in found), ONE), Fraction(max(s.high for s in found), ONE)


def silu_slope(x):
    side = sigmoid(x)
    return side * ((-side + 1) * x + 1)


def turn(sign):
    """A turning point between 1 and 3, and the one opposite."""
    low, high = halved(sign, Fraction(1), Fraction(3), 100)
    return (-high, -low), (low, high)


@cache
def curve(name, alpha):
    """The curve of a node."""
    odd, zero = (1, -1), [(Fraction(0), Fraction(0))]
    if name == "tanh":
        return Curve(tanh, lambda x: -(tanh(x) * tanh(x)) + 1, odd, zero)
    if name == "sigmoid":
        return Curve(sigmoid, lambda x: sigmoid(x) * sigmoid(-x), odd, zero)
    if name == "softsign":
        return Curve(softsign, lambda x: between(1 / (1 + abs(x)) ** 2), odd, zero)
    if name == "softplus":
        return Curve(softplus, sigmoid, (1,))
    if name == "exponential":
        return Curve(exp, exp, (1,), steepest=lambda high: Fraction(exp(high).high, ONE))
    if name == "elu":
        return Curve(
            lambda x: between(x) if x > 0 else (exp(x) - 1) * alpha,
            lambda x: exp(min(x, 0)) * alpha,
            (1, 0),
            zero,
            lambda _: max(alpha, Fraction(1)),
        )
    if name == "silu":
        turns = turn(lambda x: (-(tanh(x / 2) * x) + 2).sign())
        own = lambda x: sigmoid(x) * x  # noqa: E731
        return Curve(own, silu_slope, (-1, 1, -1), turns, lambda _: Fraction(11, 10))
    if name == "gelu":
        turns = turn(lambda x: (x * x < 2) - (x * x > 2))
        own, slope = lambda x: normal(x) * x, lambda x: normal(x) + density(x) * x
        return Curve(own, slope, (-1, 1, -1), turns, lambda _: Fraction(113, 100))
    assert name == "hard_silu", f"the second checker knows no function {name}"
    return Curve(
        lambda x: between(x * min(max(x + 3, 0), 6) / 6),
        lambda x: between(min(max((2 * x + 3) / 6, Fraction(-1, 2)), Fraction(3, 2))),
        (0, 1, 0),
        [(Fraction(end), Fraction(end)) for end in (-3, 3)],
        lambda _: Fraction(3, 2),
    )
