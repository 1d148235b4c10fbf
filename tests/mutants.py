"""Change the trusted code in one place at a time, and see whether its tests notice.

    KERAS_BACKEND=torch python tests/mutants.py                 # 12 mutants of each file
    KERAS_BACKEND=torch python tests/mutants.py --count 1000 --only walk.py
    KERAS_BACKEND=torch python tests/mutants.py --again         # those that survived

The syntax tree is changed as a module is imported; no file is touched. What could make a bound
unsound comes first: errors left out, comparisons, signs, minima and maxima, branches of np.where,
checks that no longer raise. Each mutant runs in a fork of this process, which has imported what is
slow, until the first test fails. Results are added to benchmarks/results/mutants.json, where a
survivor has its reason; if interrupted, it goes on from there. Needs a system that can fork.
"""

import argparse
import ast
import importlib.machinery
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOM = ROOT / "keras_taps" / "verification"
RESULTS = ROOT / "benchmarks" / "results" / "mutants.json"
TESTS = "tests/verification"
OWN = f"{TESTS}/certificate/test_"
CHECKER = [f"{OWN}{name}.py" for name in ("dust", "every_step", "checker", "leaves", "distance")]
EXACT = f"{TESTS}/test_false_verdicts.py"
GRAPH = [CHECKER[1], f"{TESTS}/graph", EXACT]
RECHECKING = [f"{OWN}{name}.py" for name in ("recheck", "forgery", "report", "hostile_files")]
RECHECKING += [f"{TESTS}/test_domains.py", f"{TESTS}/test_radii_of_each_input.py"]
ENGINE = f"{TESTS}/search/test_domain_engine.py"
TREES = [f"{OWN}tree.py", f"{OWN}hostile_files.py", CHECKER[3]]
SPLITTING = [*CHECKER[:2], f"{OWN}many_boxes.py", f"{TESTS}/search/test_input_splitting.py"]
VNNLIB_2 = f"{TESTS}/formats/test_vnnlib_tensors.py"
FILES = {  # and the tests that must notice, the quickest first
    "certificate/rounding.py": CHECKER,
    "certificate/walk.py": CHECKER,
    "certificate/backward.py": [*CHECKER, f"{OWN}places.py"],
    "certificate/lines.py": CHECKER,
    "certificate/leaves.py": [*CHECKER, f"{OWN}tree.py", f"{OWN}curves.py", ENGINE],
    "certificate/curves.py": [f"{OWN}curves.py"],
    "certificate/distance.py": [f"{OWN}distance.py"],
    "certificate/tightening.py": [f"{OWN}tightening.py", f"{OWN}forgery.py"],
    "certificate/many_boxes.py": SPLITTING,
    "certificate/nested_boxes.py": SPLITTING,
    "certificate/clipping.py": SPLITTING,
    "certificate/checker.py": [*CHECKER, EXACT],
    "certificate/deployed.py": [f"{OWN}deployed.py"],
    "certificate/claims.py": RECHECKING,
    "certificate/recheck.py": RECHECKING,
    "certificate/schema.py": RECHECKING,
    "certificate/tree.py": TREES,
    "certificate/tree_checker.py": TREES,
    "certificate/counterexamples.py": [f"{OWN}counterexamples.py", EXACT],
    "graph/graph.py": GRAPH,
    "graph/nodes.py": GRAPH,
    "graph/distance.py": [f"{TESTS}/graph/test_distance.py", f"{OWN}distance.py"],
    "graph/storage.py": [f"{TESTS}/graph", f"{OWN}hostile_files.py", f"{OWN}forgery.py"],
    "graph/arrays.py": [f"{TESTS}/graph", f"{OWN}forgery.py", f"{OWN}hostile_files.py"],
    "graph/exact_values.py": [EXACT, *GRAPH],
    "graph/unsafe.py": [f"{TESTS}/formats/test_vnnlib.py", EXACT, *GRAPH],
    "formats/onnx_constants.py": [EXACT, f"{TESTS}/formats/test_onnx_reader.py"],
    "formats/vnnlib_text.py": [f"{TESTS}/formats/test_vnnlib.py", VNNLIB_2],
    "formats/vnnlib_formulas.py": [f"{TESTS}/formats/test_vnnlib.py", VNNLIB_2, EXACT],
    "formats/vnnlib_sets.py": [f"{TESTS}/formats/test_vnnlib.py", EXACT],
    "formats/vnnlib_scalars.py": [f"{TESTS}/formats/test_vnnlib.py"],
    "formats/vnnlib_tensors.py": [VNNLIB_2],
}
SECONDS = 60  # a mutant that runs longer is noticed by whoever waits

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
_ERRORS = {"gamma", "unit", "lost"}


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
    if isinstance(node, ast.Raise):
        yield "raise dropped", lambda: _replace(node, ast.Pass())
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") in _ERRORS:
        yield f"{node.func.id} to 0", lambda: _replace(node, ast.Constant(0.0))
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "where" and node.args[2:]:
        for place in (1, 2):
            yield f"where to its {place}.", lambda place=place: _replace(node, node.args[place])
    if isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value:
        yield f"{node.value!r} to 0", lambda: setattr(node, "value", 0)


def _replace(node, other):
    """Make a node of the tree another one, which its parent need not know."""
    state = dict(vars(other))
    node.__class__ = other.__class__
    vars(node).clear()
    vars(node).update(state)


def mutants(source, seed):
    """Every change to a source, what may be unsound first: its number, kind and a record of it."""
    found, lines = [], source.splitlines()
    for number, node in enumerate(ast.walk(ast.parse(source))):
        for kind, (what, _) in enumerate(changes(node)):
            record = {"line": node.lineno, "column": node.col_offset, "mutation": what}
            found.append((number, kind, record | {"code": lines[node.lineno - 1].strip()}))
    random.Random(seed).shuffle(found)
    return sorted(found, key=lambda mutant: mutant[2]["mutation"].startswith(_LATER))


_LATER = ("condition", *"0123456789", "Mult", "Div", "Bit")  # seldom about a bound's side


def mutated(source, number, kind):
    """The syntax tree with one change."""
    tree = ast.parse(source)
    node = next(node for i, node in enumerate(ast.walk(tree)) if i == number)
    list(changes(node))[kind][1]()
    return ast.fix_missing_locations(tree)


class _Notes:
    """What failed first, for the parent; hypothesis only finds and does not make it smaller."""

    def __init__(self, pipe, examples):
        self.pipe, self.examples = pipe, examples

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        for test in {item.obj for item in items if hypothesis.is_hypothesis_test(item.obj)}:
            name = "_hypothesis_internal_use_settings"
            own = getattr(test, name)
            count = min(own.max_examples, self.examples)
            phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
            setattr(test, name, hypothesis.settings(own, max_examples=count, phases=phases))

    def pytest_runtest_logreport(self, report):
        if report.failed:
            os.write(self.pipe, report.nodeid.encode() + b"\n")

    def pytest_collectreport(self, report):
        if report.failed:
            os.write(self.pipe, b"import of " + report.nodeid.encode() + b"\n")


def killer(path, tree, tests, examples):
    """The test that fails with this tree in place of a file, in a fork, or `None`."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with os.fdopen(reader) as notes:
            first = notes.read().partition("\n")[0]
        status = os.waitpid(child, 0)[1]
        if status == 0:
            return None
        return first or (f"still running after {SECONDS} s" if os.WIFSIGNALED(status) else "import")
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
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header"]
        code = pytest.main([*options, *tests], plugins=[_Notes(writer, examples)])
        os._exit(0 if code == 0 else 1)
    except BaseException:
        os._exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=12, help="mutants of each file, at most")
    parser.add_argument("--only", default="", help="part of the name of a file")
    parser.add_argument("--code", default="", help="only lines that contain this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=25, help="of hypothesis, at most")
    parser.add_argument("--again", action="store_true", help="only those that survived")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("KERAS_BACKEND", "torch")
    for name in ("keras", "hypothesis.strategies", "onnx", "scipy.optimize"):  # what is slow
        __import__(name)
    sys.modules["keras"].utils.set_random_seed(0)  # so is its first time
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    passed = []  # lists of tests that pass without a change
    for name, tests in FILES.items():
        if options.only not in name:
            continue
        path, began = ROOM / name, time.time()
        source = path.read_text()
        chosen = mutants(source, options.seed)
        chosen = [c for c in chosen if options.code in c[2]["code"]]
        known = {_key(r): r for r in results if r["file"] == name}
        if options.again:
            chosen = [c for c in chosen if _survived(known.get(_key(c[2])))]
        else:
            chosen = [c for c in chosen[: options.count] if _key(c[2]) not in known]
        if not chosen:
            continue
        if tests not in passed:
            if failed := killer(path, ast.parse(source), tests, options.examples):
                sys.exit(f"the tests of {name} fail without any change: {failed}")
            passed.append(tests)
        for number, kind, record in chosen:
            old = known.get(_key(record))
            record = {"file": name, **record}
            record["killed_by"] = killer(
                path, mutated(source, number, kind), tests, options.examples
            )
            if old in results:  # two of a line may look alike: a + b + c has two sums
                results.remove(old)
                if not record["killed_by"] and "because" in old:
                    record["because"] = old["because"]
            results.append(record)
            _write(results)
            if not record["killed_by"]:
                print("survives: {file}:{line}: {mutation}: {code}".format(**record), flush=True)
        own = [r for r in results if r["file"] == name]
        alive = sum(map(_survived, own))
        print(f"{name}: {alive} of {len(own)} survive, {time.time() - began:.0f} s", flush=True)


def _key(record):
    return tuple(record[name] for name in ("line", "column", "mutation", "code"))


def _survived(record):
    return record is not None and record["killed_by"] is None


def _write(results):
    lines = ",\n".join(json.dumps(record) for record in results)
    part = RESULTS.with_suffix(".part")
    part.write_text(f"[\n{lines}\n]\n")
    part.replace(RESULTS)


if __name__ == "__main__":
    main()
