"""Formulas of VNNLIB files in disjunctive normal form, their numbers exact."""

import itertools
import math
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from keras_taps.verification.formats.vnnlib_text import show

MOST_DISJUNCTS = 100_000
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


@dataclass(frozen=True)
class Variable:
    """An input or an output as a file declares it.

    Args:
        name: Name in the file.
        kind: Element type, "real", "float32" or "float64".
        shape: Tuple of its sides, entries in row-major order.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


class Formulas(ABC):
    """Meaning of the commands of one version; `command` takes them in their order.

    A formula becomes a list of disjuncts, each a tuple of atoms with exact fractions: `("lower" or
    "upper", i, number, strict)` for an input, `("form", weights, offset, strict)` for outputs.
    """

    comparisons: tuple[str, ...] = ("<=", "<", ">=", ">")

    @abstractmethod
    def variable(self, word: str) -> tuple[str, int] | None:
        """`("X", i)` or `("Y", i)` of a declared variable, `None` of any other word."""

    @abstractmethod
    def spell(self, key: tuple[str, int]) -> str:
        """A variable as the file writes it."""

    def assertion(self, form):
        """The disjuncts that an `assert` names."""
        if len(form) != 2:
            raise ValueError(f"`assert` takes one formula. Received: {len(form) - 1}")
        return self.formula(form[1])

    def formula(self, form):
        head = form[0] if isinstance(form, list) and form else None
        if head == "and":
            return conjunction([self.formula(part) for part in form[1:]])
        if head == "or":
            return [conjunct for part in form[1:] for conjunct in self.formula(part)]
        if not isinstance(head, str) or head not in self.comparisons:
            *others, last = self.comparisons
            raise ValueError(
                f"expected and, or, {', '.join(others)} or {last}. Received: {show(form)}"
            )
        if len(form) != 3:
            raise ValueError(f"{head} takes two operands. Received: {show(form)}")
        left, right = self.linear(form[1]), self.linear(form[2])
        if head == "==":
            return conjunction([self.atom(left, right, False), self.atom(right, left, False)])
        if head == "!=":
            return self.atom(left, right, True) + self.atom(right, left, True)
        return self.atom(*((right, left) if head[0] == "<" else (left, right)), len(head) == 1)

    def atom(self, large, small, strict):
        """`large >= small`, or `large > small`, as a disjunction."""
        form = _combine([(1, large), (-1, small)])
        offset = form.pop(None, 0)
        form = {key: weight for key, weight in form.items() if weight}
        if not form:
            return [()] if offset > 0 or (offset == 0 and not strict) else []
        inputs = [key for key in form if key[0] == "X"]
        if not inputs:
            weights = {index: weight for (_, index), weight in form.items()}
            return [(("form", weights, offset, strict),)]
        if len(form) > 1:
            kind = "inputs and outputs" if len(inputs) < len(form) else "several inputs"
            raise ValueError(f"a constraint on {kind}: {', '.join(map(self.spell, sorted(form)))}")
        (((_, index), weight),) = form.items()
        kind, number = "lower" if weight > 0 else "upper", Fraction(-offset) / weight
        return [((kind, index, number, strict),)]

    def linear(self, form):
        """Coefficients of variables, and of `None` for the constant."""
        if isinstance(form, str):
            key = self.variable(form)
            if key is not None:
                return {key: 1}
            if _NUMBER.fullmatch(form):
                return {None: _number(form)}
            raise ValueError(f"unknown variable {form!r}")
        head, parts = form[0] if form else None, [self.linear(part) for part in form[1:]]
        if head == "+" and parts:
            return _combine([(1, part) for part in parts])
        if head == "-" and parts:
            first = 1 if len(parts) > 1 else -1
            return _combine([(first, parts[0]), *((-1, part) for part in parts[1:])])
        if head == "*" and parts:
            constants = [part[None] for part in parts if set(part) <= {None}]
            others = [part for part in parts if not set(part) <= {None}]
            if len(others) > 1:
                raise ValueError(f"a product of variables is not linear: {show(form)}")
            return _combine([(math.prod(constants), others[0] if others else {None: 1})])
        raise ValueError(f"expected a number, variable, +, - or *. Received: {show(form)}")


@lru_cache(maxsize=1 << 16)
def _number(token):
    return Fraction(token)


def _combine(terms):
    total = {}
    for factor, form in terms:
        for name, weight in form.items():
            total[name] = total.get(name, 0) + factor * weight
    return total


def conjunction(parts: list[list[tuple]]) -> list[tuple]:
    """The disjuncts of a conjunction of disjunctions."""
    if math.prod(map(len, parts)) > MOST_DISJUNCTS:
        raise ValueError(f"more than {MOST_DISJUNCTS} disjuncts")
    return [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]
