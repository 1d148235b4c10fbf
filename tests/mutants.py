"""Change the trusted code in one place at a time, and see whether its tests notice.

    KERAS_BACKEND=torch python tests/mutants.py                 # a sample of 15 a file
    KERAS_BACKEND=torch python tests/mutants.py --count 1000 --only walk.py

Comparisons, arithmetic, minima and maxima, signs, numbers and conditions are changed in the syntax
tree as a module is imported; no file is touched. Each mutant runs in a fork of this process, which
has imported what is slow, until the first test fails. Survivors are printed; docs/certification.md
says which are known and why they do no harm. Needs a system that can fork.
"""

import argparse
import ast
import importlib.machinery
import os
import random
import signal
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOM = ROOT / "keras_taps" / "verification"
TESTS = "tests/verification"
OWN = f"{TESTS}/certificate/test_"
CHECKER = [f"{OWN}{name}.py" for name in ("every_step", "checker", "leaves", "places")]
GRAPH = [f"{TESTS}/graph", f"{TESTS}/test_false_verdicts.py", CHECKER[0]]
READING = [f"{TESTS}/test_false_verdicts.py", f"{TESTS}/formats"]
RECHECKING = [f"{OWN}{name}.py" for name in ("recheck", "forgery", "report")]
TREES = [f"{OWN}tree.py", *CHECKER]
SPLITTING = [f"{OWN}many_boxes.py", f"{TESTS}/search/test_input_splitting.py"]
FILES = {  # and the tests that must notice, the quickest first
    "certificate/rounding.py": CHECKER,
    "certificate/walk.py": CHECKER,
    "certificate/backward.py": CHECKER,
    "certificate/lines.py": CHECKER,
    "certificate/leaves.py": TREES,
    "certificate/tree_checker.py": TREES,
    "certificate/checker.py": CHECKER,
    "certificate/counterexamples.py": [f"{TESTS}/test_false_verdicts.py"],
    "certificate/claims.py": RECHECKING,
    "certificate/schema.py": RECHECKING,
    "certificate/many_boxes.py": SPLITTING,
    "certificate/clipping.py": SPLITTING,
    "graph/graph.py": GRAPH,
    "graph/nodes.py": GRAPH,
    "graph/exact_values.py": GRAPH[::-1],
    "graph/unsafe.py": GRAPH,
    "formats/onnx_constants.py": READING,
    "formats/onnx_ops.py": READING[::-1],
    "formats/vnnlib.py": READING[::-1],
}
SECONDS = 300  # a mutant that runs longer is noticed by whoever waits

_SWAPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_NAMES = {"maximum": "minimum", "fmax": "fmin", "max": "min", "any": "all", "nextafter": "maximum"}
_NAMES |= {other: name for name, other in _NAMES.items() if name != "nextafter"}


def changes(node):
    """Functions that change a node in place, each with its description."""
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in _SWAPS:
        new = _SWAPS[type(node.op)]
        yield f"{type(node.op).__name__} to {new.__name__}", lambda: setattr(node, "op", new())
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub)):
        yield "right side dropped", lambda: _replace(node, node.left)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
        new = _SWAPS[type(node.ops[0])]
        what = f"{type(node.ops[0]).__name__} to {new.__name__}"
        yield what, lambda: node.ops.__setitem__(0, new())
    if isinstance(node, ast.Attribute) and node.attr in _NAMES:
        yield (
            f"{node.attr} to {_NAMES[node.attr]}",
            lambda: setattr(node, "attr", _NAMES[node.attr]),
        )
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "clip":
        yield "clip dropped", lambda: _replace(node, node.args[0])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)):
        yield f"{type(node.op).__name__} dropped", lambda: _replace(node, node.operand)
    if isinstance(node, ast.If):
        yield "condition negated", lambda: setattr(node, "test", ast.UnaryOp(ast.Not(), node.test))
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value:
        yield f"{node.value!r} to 0", lambda: setattr(node, "value", 0)


def _replace(node, other):
    """Make a node of the tree another one, which its parent need not know."""
    state = dict(vars(other))
    node.__class__ = other.__class__
    vars(node).clear()
    vars(node).update(state)


def mutants(source):
    """Pairs of a line and a description of every change to a source."""
    found = []
    for number, node in enumerate(ast.walk(ast.parse(source))):
        for kind, (what, _) in enumerate(changes(node)):
            found.append((number, kind, node.lineno, what))
    return found


def mutated(source, number, kind):
    """The syntax tree with one change."""
    tree = ast.parse(source)
    node = next(node for i, node in enumerate(ast.walk(tree)) if i == number)
    list(changes(node))[kind][1]()
    return ast.fix_missing_locations(tree)


def survives(path, tree, tests):
    """Whether the tests pass with this tree in place of a file, in a fork."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        get_code = importlib.machinery.SourceFileLoader.get_code

        def own_code(self, name):
            if Path(self.path) == path:
                return compile(tree, str(path), "exec")
            return get_code(self, name)

        importlib.machinery.SourceFileLoader.get_code = own_code
        import pytest

        code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests])
        os._exit(0 if code == 0 else 1)
    except BaseException:
        os._exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=15, help="mutants of each file, at most")
    parser.add_argument("--only", help="part of the name of a file")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("KERAS_BACKEND", "torch")
    for name in ("keras", "hypothesis", "onnx", "scipy.sparse", "pytest"):  # what is slow
        __import__(name)
    began, tried, survivors = time.time(), 0, []
    for name, tests in FILES.items():
        if options.only and options.only not in name:
            continue
        path = ROOM / name
        source = path.read_text()
        if not survives(path, ast.parse(source), tests):
            sys.exit(f"the tests of {name} fail without any change")
        all_of_them = mutants(source)
        own = random.Random(options.seed)
        for number, kind, line, what in own.sample(
            all_of_them, min(options.count, len(all_of_them))
        ):
            tried += 1
            if survives(path, mutated(source, number, kind), tests):
                survivors.append((name, line, what))
                text = source.splitlines()[line - 1].strip()
                print(f"survives: {name}:{line}: {what}: {text}", flush=True)
        print(
            f"{name}: {tried} tried, {len(survivors)} survive, {time.time() - began:.0f} s",
            flush=True,
        )
    sys.exit(bool(survivors))


if __name__ == "__main__":
    main()
