"""What the records of a report claim, derived again: each claim holds or there is a reason."""

from dataclasses import dataclass

import numpy as np

from keras_taps.domain import UNIT, Domain, check_radius, radius_text, same
from keras_taps.verification.certificate.checker import METHODS, Checker
from keras_taps.verification.certificate.counterexamples import surely_reached
from keras_taps.verification.certificate.deployed import DeployedNetwork
from keras_taps.verification.certificate.proofs import pattern, unpack_tightening, unpack_trees
from keras_taps.verification.certificate.report import input_hash
from keras_taps.verification.certificate.rounding import inner_interval, input_interval
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED
from keras_taps.verification.certificate.tree_checker import proved_bounds
from keras_taps.verification.graph.arrays import Expected, read_arrays
from keras_taps.verification.graph.exact_values import exact_forms
from keras_taps.verification.graph.unpool import without_pooling
from keras_taps.verification.graph.unsafe import margin_forms

BRANCHED = "bab"
TIGHTENED = ("alpha-crown", BRANCHED)  # methods whose boxes may be derived with given slopes
_SLACK = 1e-6  # of a bound that another machine derives: it tells nothing of the verdict


class Doubt(Exception):
    """Why a claim is not confirmed."""


class Undecided(Doubt):
    """Why a claim is neither confirmed nor refuted."""


@dataclass(frozen=True)
class Subject:
    """One record and what it is about.

    Args:
        record: The record.
        x: float32 array, the image.
        eps: Radius.
        domain: `Domain` of the inputs.
    """

    record: dict
    x: np.ndarray
    eps: object
    domain: Domain = UNIT

    @property
    def box(self):
        """Box of the inputs, rounded outward."""
        return input_interval(self.x, self.eps, self.domain)


class Claims:
    """The claims of a report about one network.

    Args:
        graph: `Graph`.
        eps: Radius, a number or an array that broadcasts to one input; `None` if each record says
            its own.
        images: float32 array `(count, ...)` of the receiver's images, or `None`: then an image is
            what the file of a proof says.
        labels: Integer array `(count,)`, or `None`.
        domain: `Domain` of the inputs.
        radii: The receiver's `Radii`, which those of the records must equal, or `None`.
    """

    def __init__(self, graph, eps, images=None, labels=None, domain=UNIT, radii=None):
        self.graph, self.eps, self.domain, self.radii = graph, eps, domain, radii
        self.images, self.labels = images, labels
        self.checker, self.deployed = Checker(graph), DeployedNetwork(graph)
        self._branched = None

    def check(self, record, path):
        """Confirm one record.

        Args:
            record: The record.
            path: Path of the file of its proof, or `None` if its verdict needs none.

        Returns:
            Whether the network as it is deployed is proved too.

        Raises:
            Doubt: If the claim does not hold.
        """
        if self.graph.outputs < 2:
            raise Doubt("the network has one output, and classes need two")
        if not max(record["label"], record["predicted"]) < self.graph.outputs:
            raise Doubt(f"the network has {self.graph.outputs} classes")
        eps = self.radius(record)
        proof = {} if path is None else self._read(record, eps, path)
        subject = Subject(record, self._image(record, proof), eps, self.domain)
        if not self.domain.holds(subject.x):  # its box could be empty, and prove anything
            raise Doubt(f"the image has values outside {self.domain}")
        self._check_class(subject)
        if record["verdict"] == CERTIFIED:
            return self._certified(subject, proof)
        if record["bound"] is not None and record["bound"] < 0:
            raise Doubt("its bound is below 0, and it is not certified")
        if record["verdict"] == FALSIFIED:
            self._falsified(subject, proof)
        return False

    # What it is about

    def radius(self, record):
        """Radius of a record: its own or that of the report, and the receiver's, if he has one.

        Raises:
            Doubt: If it is another one, or does not fit the inputs.
        """
        shape, eps = self.graph.in_shape, self.eps
        if eps is None:
            try:
                eps = check_radius("eps", record["eps"], Domain.of(None), shape)
            except ValueError as error:
                raise Doubt(f"its radius does not fit: {error}") from error
        if self.radii is None:
            return eps
        try:
            asked = self.radii[record["index"]]
        except IndexError:
            raise Doubt("there is no radius for such an image") from None
        if not same(eps, asked, shape):
            raise Doubt(f"it is about eps {radius_text(eps)}, not {radius_text(asked)}")
        return eps

    def _image(self, record, proof):
        index = record["index"]
        if self.images is None:
            return proof.get("x")
        if index >= len(self.images):
            raise Doubt("there is no such image in the data")
        x = self.images[index]
        if input_hash(x) != record["input"]:
            raise Doubt("the image is another in the data")
        if self.labels is not None and int(self.labels[index]) != record["label"]:
            raise Doubt("the label is another in the data")
        return x

    def _read(self, record, eps, path):
        shape = self.graph.in_shape
        expected = {
            "x": Expected(("<f4",), shape),
            "label": Expected(("<i8",), ()),
            "eps": Expected(("<f8",), np.shape(eps)),
        }
        if record["verdict"] == FALSIFIED:
            expected["point"] = Expected(("<f4", "<f8"), shape)
        elif record["verdict"] == CERTIFIED:
            expected["method"] = Expected(("<U",), ())
        others = pattern if record["verdict"] == CERTIFIED else None
        try:
            proof = read_arrays(path, expected, others)
        except (ValueError, OSError) as error:
            raise Doubt(f"the file cannot be used: {error}") from error
        if int(proof["label"]) != record["label"] or np.any(proof["eps"] != eps):
            raise Doubt("the file is about another label or eps")
        if input_hash(proof["x"]) != record["input"]:
            raise Doubt("the file is about another input")
        return proof

    # What is claimed

    def _check_class(self, subject):
        """The predicted class is one that the network gives the image in real arithmetic.

        Raises:
            Undecided: If only the rounding of the network as it runs could give it, or that of
                float64 hides it and there is no exact arithmetic.
        """
        forms = margin_forms(subject.record["predicted"], self.graph.outputs)
        point = np.asarray(subject.x, "float64")
        both, nothing = np.concatenate([forms, -forms]), np.zeros(2 * len(forms))
        found, boxes = self.checker.bounds_and_boxes(point, point, both, nothing, "ibp")
        high, low = found[: len(forms)], -found[len(forms) :]  # of the margins of other classes
        if np.all(high <= 0):
            return
        if np.all(np.isfinite(low) & (low <= 0)):  # float64 cannot tell
            values = exact_forms(self.graph, point, forms, np.zeros(len(forms)))
            if values is not None and max(values) <= 0:
                return
        error = self.deployed.margin_errors(point, point, boxes, forms)
        if np.all(low <= error):
            raise Undecided("only rounding could give it the class of the record")
        raise Doubt(f"the network does not give it the class {subject.record['predicted']}")

    def _certified(self, subject, proof):
        record = subject.record
        lower, upper = subject.box
        forms = margin_forms(record["label"], self.graph.outputs)
        try:
            bounds, boxes = self._bounds(lower, upper, forms, proof)
        except (ValueError, IndexError, KeyError, OverflowError) as error:
            raise Doubt(f"the file cannot be used: {error}") from error
        worst = np.max(bounds) if np.all(np.isfinite(bounds) | (bounds < 0)) else np.inf
        if not worst < 0:
            raise Doubt(f"the largest bound is {worst:g}, not below 0")
        claimed = record["bound"]
        room = 0 if claimed is None else claimed + _SLACK * (1 + abs(claimed))
        if record["checked"] and not worst <= room:
            raise Doubt(f"the largest bound is {worst:g}, not {claimed!r}")
        deployed = self.deployed.holds(lower, upper, boxes, forms, bounds)
        if record.get("deployed") and not deployed:
            raise Doubt("the network as it is deployed is not proved")
        return deployed

    def _bounds(self, lower, upper, forms, proof):
        method, slopes, offset = str(proof["method"]), proof.get("slopes"), np.zeros(len(forms))
        if method != BRANCHED:
            if method not in METHODS:
                raise ValueError(f"its method {method!r} is none of {', '.join(METHODS)}")
            boxes = self._boxes(self.checker, lower, upper, proof) if method in TIGHTENED else None
            return self.checker.bounds_and_boxes(
                lower, upper, forms, offset, method, slopes, boxes=boxes
            )
        if self._branched is None:
            graph = without_pooling(self.graph)  # what was branched on
            self._branched = self.checker if graph is self.graph else Checker(graph)
        boxes = self._boxes(self._branched, lower, upper, proof)
        root = self._branched.root(lower, upper, boxes=boxes)
        given = forms, offset, np.arange(len(forms)), unpack_trees(proof), slopes
        bounds, boxes = proved_bounds(root, *given), root.boxes
        if self._branched is not self.checker:
            _, boxes = self.checker.bounds_and_boxes(lower, upper, forms, offset)
        return bounds, boxes

    def _boxes(self, checker, lower, upper, proof):
        """The boxes that a certificate has slopes for, or `None`."""
        tightening = unpack_tightening(proof)
        return None if tightening is None else checker.tightened(lower, upper, tightening)

    def _falsified(self, subject, proof):
        lower, upper = inner_interval(subject.x, subject.eps, subject.domain)
        point = np.asarray(proof["point"], "float64")
        if not np.all((point >= lower) & (point <= upper)):
            raise Doubt("the counterexample lies outside the box")
        forms = margin_forms(subject.record["label"], self.graph.outputs)
        values = self.graph(point[None])[0] @ forms.T
        best = np.argmax(values)
        if not surely_reached(self.checker, point, forms[best : best + 1], np.zeros(1)):
            raise Doubt(f"its largest margin is {values[best]:g}, which is not surely 0 or more")
