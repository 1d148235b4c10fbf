"""Properties in VNNLIB 1.0, the format of the verification competition: read and written.

A file asserts what a counterexample satisfies. Reading brings it into disjunctive normal form and
makes one `Unsafe` set a disjunct. Every set contains the one in the file, so that a proof that it
is empty holds for the file: strict bounds of inputs are read as closed ones, and a bound that
float64 cannot hold is rounded outward. For counterexamples `inner` holds the outermost float64
numbers that meet the bounds as they are written, and strict conditions on outputs stay strict.

Reader and writer are in one long file, because they share a grammar.
"""

import gzip
import itertools
import math
import re
import zlib
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from keras_taps.files import write_atomically
from keras_taps.verification.formats.onnx_reader import OnnxNetwork
from keras_taps.verification.graph.unsafe import Unsafe

MOST_DISJUNCTS = 100_000
DEEPEST = 100  # nested parentheses
# Comments, strings, quoted symbols, parentheses, words; a quote that is left over is never closed.
_TOKEN = re.compile(r';[^\n]*|"(?:[^"]|"")*"|\|[^|]*\||[()]|[^\s();"|]+|["|]', re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_VARIABLE = re.compile(r"([XY])_(0|[1-9]\d*)", re.ASCII)
_COMMANDS = ("check-sat", "exit", "get-model", "set-info", "set-logic", "set-option")


def read_vnnlib(path: str | Path, network: OnnxNetwork) -> list[Unsafe]:
    """Read the sets of counterexamples of a property.

    Args:
        path: Path of a `.vnnlib` or `.vnnlib.gz` file.
        network: `OnnxNetwork`; it says how inputs are ordered and how many there are.

    Returns:
        List of `Unsafe`. Disjuncts that contradict themselves are left out, so the list may be
        empty; disjuncts that constrain no output have no forms.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The text is no VNNLIB, does not fit the network, leaves an input unbounded, is
            not linear, or bounds inputs otherwise than one by one.

    Example:

    >>> sets = read_vnnlib("property.vnnlib", read_onnx("network.onnx"))  # doctest: +SKIP
    """
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not text or is damaged: {error}") from None
    reader = _Reader(network.places.size, network.graph.outputs)
    parts = []
    for line, form in _forms(path, text):
        try:
            parts += reader.command(form)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
    try:
        return _sets(parts, network)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _forms(path, text):
    """Each expression at the top with its line; nested lists of words."""
    stack, start = [], 0

    def fail(why, position):
        line = text.count("\n", 0, position) + 1
        return ValueError(f"{path}, line {line}: {why}")

    line, counted = 1, 0
    for match in _TOKEN.finditer(text):
        token = match.group()
        if token[0] == ";":
            if "\r" in token[:-1]:
                raise fail("a carriage return may end this comment, or not", match.start())
            continue
        if token in ('"', "|"):
            raise fail(f"this {token} is never closed", match.start())
        if token[0] in '"|' and "\\" in token:
            raise fail("a backslash in quotes, which may escape their end, or not", match.start())
        if token == "(":
            if not stack:
                start = match.start()
            if len(stack) == DEEPEST:
                raise fail(f"more than {DEEPEST} nested parentheses", match.start())
            stack.append([])
        elif not stack:
            raise fail(f"{token!r} outside of parentheses", match.start())
        elif token == ")":
            form = stack.pop()
            if stack:
                stack[-1].append(form)
            else:
                line, counted = line + text.count("\n", counted, start), start
                yield line, form
        else:
            stack[-1].append(token)
    if stack:
        raise fail("this parenthesis is never closed", start)


class _Reader:
    """Meaning of expressions for a network.

    A formula becomes a list of disjuncts, each a tuple of atoms with exact fractions: `("lower" or
    "upper", i, number, strict)` for an input, `("form", weights, offset, strict)` for outputs.
    """

    def __init__(self, inputs, outputs):
        self.sizes = {"X": inputs, "Y": outputs}
        self.declared = set()
        self.asked = None

    def command(self, form):
        """Disjunctions to conjoin, one an assertion."""
        head = form[0] if form else None
        if head in ("declare-const", "assert") and self.asked:
            raise ValueError(f"`{head}` after `{self.asked}`")
        if head in ("check-sat", "exit"):
            self.asked = head
        if head == "declare-const":
            self.declare(form)
        elif head == "assert":
            if len(form) != 2:
                raise ValueError(f"`assert` takes one formula. Received: {len(form) - 1}")
            return [self.formula(form[1])]
        elif head not in _COMMANDS:
            raise ValueError(f"unknown command {_show(head)}; accepted: declare-const, assert")
        return []

    def declare(self, form):
        if len(form) != 3 or form[2] != "Real":
            raise ValueError(f"expected (declare-const NAME Real). Received: {_show(form)}")
        match = _VARIABLE.fullmatch(form[1]) if isinstance(form[1], str) else None
        if not match:
            raise ValueError(f"variables are X_i and Y_i. Received: {_show(form[1])}")
        if int(match[2]) >= self.sizes[match[1]]:
            kind = "inputs" if match[1] == "X" else "outputs"
            raise ValueError(f"{form[1]}: the network has {self.sizes[match[1]]} {kind}")
        self.declared.add(form[1])

    def formula(self, form):
        head = form[0] if isinstance(form, list) and form else None
        if head == "and":
            return _conjunction([self.formula(part) for part in form[1:]])
        if head == "or":
            return [conjunct for part in form[1:] for conjunct in self.formula(part)]
        if head in ("<=", "<", ">=", ">"):
            if len(form) != 3:
                raise ValueError(f"{head} takes two operands. Received: {_show(form)}")
            left, right = self.linear(form[1]), self.linear(form[2])
            return self.atom(*((right, left) if head[0] == "<" else (left, right)), len(head) == 1)
        raise ValueError(f"expected and, or, <=, <, >= or >. Received: {_show(form)}")

    def atom(self, large, small, strict):
        """`large >= small`, or `large > small`, as a disjunction."""
        form = _combine([(1, large), (-1, small)])
        offset = form.pop(None, 0)
        form = {name: weight for name, weight in form.items() if weight}
        if not form:
            return [()] if offset > 0 or (offset == 0 and not strict) else []
        inputs = [name for name in form if name[0] == "X"]
        if not inputs:
            weights = {int(name[2:]): weight for name, weight in form.items()}
            return [(("form", weights, offset, strict),)]
        if len(form) > 1:
            kind = "inputs and outputs" if len(inputs) < len(form) else "several inputs"
            raise ValueError(f"a constraint on {kind}: {', '.join(sorted(form))}")
        ((name, weight),) = form.items()
        kind, number = "lower" if weight > 0 else "upper", Fraction(-offset) / weight
        return [((kind, int(name[2:]), number, strict),)]

    def linear(self, form):
        """Coefficients of variables, and of `None` for the constant."""
        if isinstance(form, str):
            if form in self.declared:
                return {form: 1}
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
                raise ValueError(f"a product of variables is not linear: {_show(form)}")
            return _combine([(math.prod(constants), others[0] if others else {None: 1})])
        raise ValueError(f"expected a number, variable, +, - or *. Received: {_show(form)}")


@lru_cache(maxsize=1 << 16)
def _number(token):
    return Fraction(token)


def _combine(terms):
    total = {}
    for factor, form in terms:
        for name, weight in form.items():
            total[name] = total.get(name, 0) + factor * weight
    return total


def _conjunction(parts):
    if math.prod(map(len, parts)) > MOST_DISJUNCTS:
        raise ValueError(f"more than {MOST_DISJUNCTS} disjuncts")
    return [tuple(itertools.chain(*choice)) for choice in itertools.product(*parts)]


def _show(form):
    text = f"({' '.join(map(_show, form))})" if isinstance(form, list) else str(form)
    return text if len(text) <= 80 else text[:77] + "..."


def _sets(parts, network):
    """The disjuncts as sets; what they share is computed once."""
    shared = [atom for part in parts if len(part) == 1 for atom in part[0]]
    count = network.places.size
    free = np.full(count, -math.inf), np.full(count, math.inf)
    boxes = _tightened((free, free), shared)
    common = [atom for atom in shared if atom[0] == "form"]
    found = []
    for disjunct in _conjunction([part for part in parts if len(part) != 1]):
        outer, inner = _tightened(boxes, disjunct)
        if _empty(outer, inner, [*shared, *disjunct]):
            continue
        loose = np.flatnonzero(np.isinf(outer[0]) | np.isinf(outer[1]))
        if loose.size:
            raise ValueError(f"X_{loose[0]} has no lower or no upper bound")
        forms = common + [atom for atom in disjunct if atom[0] == "form"]
        rows = [_row(weights, offset, network.graph.outputs) for _, weights, offset, _ in forms]
        weights = np.array([row for row, _, _ in rows]).reshape(-1, network.graph.outputs)
        # Adding 0.0 turns the -0.0 of rounding upward into 0.0.
        above, below = (np.array([r[i] for r in rows], "float64") + 0.0 for i in (1, 2))
        outer, inner = ([network.to_graph(side) + 0.0 for side in box] for box in (outer, inner))
        strict = np.array([atom[3] for atom in forms], bool)
        found.append(Unsafe(*outer, weights, above, strict, (*inner, below)))
    return found


def _tightened(boxes, atoms):
    """The outer and the inner box of inputs with more bounds."""
    bounds = [atom for atom in atoms if atom[0] != "form"]
    if not bounds:
        return boxes
    (lower, upper), (low, high) = (tuple(side.copy() for side in box) for box in boxes)
    for kind, index, number, strict in bounds:
        if kind == "lower":
            lower[index] = max(lower[index], _below(number))
            low[index] = max(low[index], -_inside(-number, strict))
        else:
            upper[index] = min(upper[index], -_below(-number))
            high[index] = min(high[index], _inside(number, strict))
    return (lower, upper), (low, high)


def _empty(outer, inner, atoms):
    """Whether no real input meets all bounds; where float64 has one between them, one does."""
    if np.any(outer[0] > outer[1]):
        return True
    for index in np.flatnonzero(inner[0] > inner[1]):
        mine = [atom for atom in atoms if atom[0] != "form" and atom[1] == index]
        # Of equal bounds the strict one is the tighter.
        low = max((n, strict) for kind, _, n, strict in mine if kind == "lower")
        high = min((n, not strict) for kind, _, n, strict in mine if kind == "upper")
        if low[0] > high[0] or (low[0] == high[0] and (low[1] or not high[1])):
            return True
    return False


def _below(number):
    """The largest float64 that is not above a fraction."""
    try:
        nearest = float(number)
    except OverflowError:
        raise ValueError("a number is too large for float64") from None
    return nearest if nearest <= number else math.nextafter(nearest, -math.inf)


def _inside(number, strict):
    """The largest float64 that is not above a fraction, or is below it."""
    nearest = _below(number)
    return math.nextafter(nearest, -math.inf) if strict and nearest == number else nearest


def _row(weights, offset, outputs):
    """A form as a float64 row and an offset, rounded up and rounded down; the row must be exact.

    Rounding a coefficient could lose counterexamples, so a form such as `0.1 Y_0 - 0.3 Y_1` is
    multiplied until its coefficients are whole.
    """
    if not _exact(weights):
        factor = math.lcm(*(Fraction(weight).denominator for weight in weights.values()))
        weights = {index: weight * factor for index, weight in weights.items()}
        offset = offset * factor
        if not _exact(weights):
            raise ValueError("coefficients of outputs have too many digits for float64")
    row = np.zeros(outputs)
    row[list(weights)] = [float(weight) for weight in weights.values()]
    return row, -_below(-offset), _below(offset)


def _exact(weights):
    return all(_below(weight) == weight for weight in weights.values())


def write_vnnlib(sets: Sequence[Unsafe], path: str | Path, network_shape: tuple[int, ...]) -> None:
    """Write a property; it reads back exactly, for numbers are written with all their digits.

    Args:
        sets: List of `Unsafe`, at least one.
        path: Path of the `.vnnlib` or `.vnnlib.gz` file.
        network_shape: Shape of one input in the ONNX file that `write_onnx` writes: `(channels,
            height, width)` for images, whose variables come in that order.

    Raises:
        ValueError: No sets, or they do not fit the shape.

    Example:

    >>> write_vnnlib(sets, "property.vnnlib", (1, 28, 28))  # doctest: +SKIP
    """
    if not sets:
        raise ValueError("`sets` must hold at least one set: without any, there is no property")
    boxes = [[_in_file_order(side, network_shape) for side in (s.lower, s.upper)] for s in sets]
    lines = [f"(declare-const X_{i} Real)" for i in range(boxes[0][0].size)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(sets[0].weights.shape[1])]
    if all(np.array_equal(box, boxes[0]) for box in boxes):
        lines += [f"(assert {bound})" for bound in _bounds(*boxes[0])]
        disjuncts = [_outputs(unsafe) for unsafe in sets]
    else:
        pairs = zip(sets, boxes, strict=True)
        disjuncts = [[*_bounds(*box), *_outputs(unsafe)] for unsafe, box in pairs]
    if all(disjuncts):  # one that asks nothing of the outputs makes the others idle
        lines += ["(assert (or", *(f"    (and {' '.join(d)})" for d in disjuncts), "))"]
    text = "\n".join(lines) + "\n"
    raw = gzip.compress(text.encode()) if Path(path).suffix == ".gz" else text.encode()
    write_atomically(path, lambda temporary: temporary.write_bytes(raw))


def _in_file_order(side, shape):
    side, shape = np.asarray(side, "float64"), tuple(shape)
    side = side.transpose(2, 0, 1) if side.ndim == 3 else side
    if side.size != math.prod(shape) or (side.ndim == 3 and side.shape != shape):
        raise ValueError(f"a box must fit `network_shape` {shape}. Received: {side.shape}")
    if not np.all(np.isfinite(side)):
        raise ValueError("a box must be finite")
    return side.ravel()


def _bounds(lower, upper):
    for i, (low, high) in enumerate(zip(lower, upper, strict=True)):
        yield f"(<= X_{i} {_digits(high)})"
        yield f"(>= X_{i} {_digits(low)})"


def _outputs(unsafe):
    return [_inequality(*pair) for pair in zip(unsafe.weights, unsafe.offset, strict=True)]


def _inequality(weights, offset):
    """`weights @ outputs + offset >= 0` in the shortest form."""
    indices = np.flatnonzero(weights)
    positive, negative = (np.flatnonzero(weights == sign) for sign in (1, -1))
    if len(indices) == 2 and len(positive) == len(negative) == 1 and not offset:
        return f"(>= Y_{positive[0]} Y_{negative[0]})"
    if len(indices) == len(positive) == 1:
        return f"(>= Y_{positive[0]} {_digits(-offset)})"
    if len(indices) == len(negative) == 1:
        return f"(<= Y_{negative[0]} {_digits(offset)})"
    terms = [f"(* {_digits(weights[i])} Y_{i})" for i in indices]
    return f"(>= (+ {' '.join([*terms, _digits(offset)])}) 0.0)"


def _digits(number):
    """All digits of a float64: the shortest text that names it lies beside it."""
    return format(Decimal(float(number) + 0.0), "f")  # + 0.0: no minus before a zero
