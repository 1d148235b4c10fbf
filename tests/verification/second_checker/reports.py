"""Reports and what holds of their records."""

import hashlib
import json
import math
from fractions import Fraction
from itertools import product
from pathlib import Path

from tests.verification.second_checker.bounds import INFINITE, Walk
from tests.verification.second_checker.files import as_hash, exact, read_arrays
from tests.verification.second_checker.float32 import errors
from tests.verification.second_checker.networks import Network
from tests.verification.second_checker.trees import by_cases, tightening, tree_bounds


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
        lowest = [(-at.bound(opposite(form)), error) for form, error in given]
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
            lowest = [-walk.bound(opposite(form)) for form in forms]
            return ("falsified" if max(lowest) >= 0 else None), False, None
        if record["verdict"] != "certified":
            return record["verdict"], False, None
        bounds, boxes = self.bounds(box, forms, arrays)
        error = errors(self.network, box, boxes, forms)
        deployed = all(bound + e < 0 for bound, e in zip(bounds, error, strict=True))
        return ("certified" if max(bounds) < 0 else None), deployed, max(bounds)

    def bounds(self, box, forms, arrays):
        """Bounds of the forms, and the boxes that count for float32."""
        method = arrays["method"][2]
        walk = Walk(self.network, box, "crown" if method == "bab" else method)
        boxes, network = walk.boxes, self.network
        if method == "bab" and network.pools():
            network = network.without_pooling()
            walk = Walk(network, box, "crown")
        if "box_asked" in arrays and method in ("alpha-crown", "bab"):
            tight = tightening(arrays, walk.neurons)
            cases = by_cases(arrays, walk.neurons) if "case_asked" in arrays else None
            walk = Walk(network, box, "given", walk.boxes, tight, cases)
            boxes = walk.boxes if network is self.network else boxes
        slopes = [{} for _ in forms]
        if "slopes" in arrays and method in ("alpha-crown", "bab"):
            _, (count, neurons), values = arrays["slopes"]
            assert count == len(forms)
            assert neurons == len(walk.neurons)
            for number, own in enumerate(slopes):
                row = values[number * neurons : (number + 1) * neurons]
                own.update({i: Fraction(v) for i, v in enumerate(row) if not math.isnan(v)})
        found = [walk.bound(form, {"slopes": own}) for form, own in zip(forms, slopes, strict=True)]
        if method == "bab":
            grown = tree_bounds(walk, forms.__getitem__, arrays, len(forms))
            found = [min(b, grown.get(i, INFINITE)) for i, b in enumerate(found)]
        return found, boxes


def opposite(form):
    return {i: -r for i, r in form[0].items()}, -form[1]
