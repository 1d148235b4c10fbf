"""Repeat the proofs of a report with NumPy alone."""

from dataclasses import dataclass

import numpy as np

from keras_taps.verification.certificate.checker import Checker
from keras_taps.verification.certificate.counterexamples import surely_reached
from keras_taps.verification.certificate.proofs import unpack_proof
from keras_taps.verification.certificate.report import Report, files_of, input_hash
from keras_taps.verification.certificate.rounding import input_interval
from keras_taps.verification.certificate.tree_checker import check_trees
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.unpool import without_pooling
from keras_taps.verification.graph.unsafe import margin_forms


@dataclass
class Recheck:
    """What a second look at a report found.

    Args:
        confirmed: Indices whose certificate or counterexample holds.
        rejected: Dictionary from index to the reason.
        without: Indices of verdicts without a file to repeat them from.
    """

    confirmed: list
    rejected: dict
    without: list


def recheck(path, graph=None, x=None, y=None, progress=None):
    """Check the certificates and counterexamples of a report again, in float64.

    A report and its files come from one hand: they prove what they say of the network and the
    images in them. Give `graph`, `x` and `y` to see that these are the ones that you mean.

    Args:
        path: Path of the report; its folder of files lies beside it.
        graph: `Graph` that the report must be about, by default the one stored beside it.
        x: Array of the test images, `x[index]` for each record, or `None`.
        y: Integer array of their labels, with `x`.
        progress: Called as `progress(done, total)`.

    Returns:
        `Recheck`.

    Raises:
        FileNotFoundError: If the report or its network is not there.
        ValueError: If they are damaged, about another network, or name an input twice.
    """
    report = Report.load(path)
    folder = files_of(path)
    if graph is None:
        stored = folder / "network.npz"
        if not stored.is_file():
            raise FileNotFoundError(f"The network of the report, '{stored}', is not there.")
        try:
            graph = Graph.load(stored)
        except Exception as error:
            raise ValueError(f"'{stored}' is damaged ({error}).") from error
    if graph.hash != report.header["network"]:
        raise ValueError(
            f"The report is about network {report.header['network'][:12]}. "
            f"Received: network {graph.hash[:12]}"
        )
    indices = [record["index"] for record in report.records]
    if len(set(indices)) < len(indices):
        raise ValueError("The report names an input twice.")
    checker, found = Checker(graph), Recheck([], {}, [])
    proofs = {"certified": ("certificate", _certified), "falsified": ("counterexample", _falsified)}
    todo = [record for record in report.records if record["verdict"] in proofs]
    for done, record in enumerate(todo):
        name, check = proofs[record["verdict"]]
        file = folder / f"{name}-{record['index']:06d}.npz"
        if not file.is_file():
            found.without.append(record["index"])
        else:
            reason = _other_data(record, x, y)
            reason = reason or _reason(file, record, report.header, checker, check)
            if reason is None:
                found.confirmed.append(record["index"])
            else:
                found.rejected[record["index"]] = reason
        if progress:
            progress(done + 1, len(todo))
    return found


def _other_data(record, x, y):
    """Why a record is not about the data given, or `None`."""
    if x is None:
        return None
    index = record["index"]
    if not 0 <= index < len(x):
        return "there is no such image in the data"
    if input_hash(np.asarray(x[index], "float32")) != record["input"]:
        return "the image is another in the data"
    if y is not None and int(np.asarray(y).reshape(-1)[index]) != record["label"]:
        return "the label is another in the data"
    return None


def _reason(file, record, header, checker, check):
    """Why a proof does not hold, or `None`."""
    try:
        with np.load(file, allow_pickle=False) as content:
            proof = {name: content[name] for name in content.files}
        if int(proof["label"]) != record["label"] or float(proof["eps"]) != header["eps"]:
            return "it is about another label or eps"
        if input_hash(proof["x"]) != record["input"]:
            return "it is about another input"
        lower, upper = input_interval(proof["x"], header["eps"])
        forms = margin_forms(record["label"], checker.graph.outputs)
        return check(checker, lower, upper, forms, proof)
    except Exception as error:
        return f"the file cannot be used ({error})"


def _certified(checker, lower, upper, forms, proof):
    method, slopes, offset = str(proof["method"]), proof.get("slopes"), np.zeros(len(forms))
    if method == "bab":
        graph = without_pooling(checker.graph)  # what was branched on
        checker = checker if graph is checker.graph else Checker(graph)
        bounds = _branched(checker.root(lower, upper), forms, offset, slopes, proof)
    else:
        bounds = checker.upper_bounds(lower, upper, forms, offset, method, slopes)
    if np.all(np.isfinite(bounds)) and np.all(bounds < 0):
        return None
    return f"the largest bound is {np.max(bounds):g}, not below 0"


def _branched(root, forms, offset, slopes, proof):
    """Bounds on the forms, each the better one of the box itself and of its tree."""
    bounds = root.upper_bounds(forms, offset, slopes=slopes)
    trees, cuts = unpack_proof(proof)
    proved = np.flatnonzero(bounds < 0)
    trees = [tree for tree in trees if tree.group not in proved]
    return np.fmin(bounds, check_trees(root, forms, offset, np.arange(len(forms)), trees, cuts))


def _falsified(checker, lower, upper, forms, proof):
    point = np.asarray(proof["point"], "float64")
    if not np.all((point >= lower) & (point <= upper)):
        return "the counterexample lies outside the box"
    values = checker.graph(point[None])[0] @ forms.T
    best = np.argmax(values)
    if surely_reached(checker, point, forms[best : best + 1], np.zeros(1)):
        return None
    return f"its largest margin is {values[best]:g}, which is not surely 0 or more"
