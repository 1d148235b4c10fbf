"""Repeat the proofs of a report with NumPy alone, on the receiver's own network and images."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_taps.domain import UNIT, Domain, check_radius, same
from keras_taps.radii import Radii
from keras_taps.verification.certificate.claims import Claims, Doubt, Undecided
from keras_taps.verification.certificate.report import (
    file_of,
    files_of,
    named_twice,
    read_report,
)
from keras_taps.verification.certificate.schema import CERTIFIED, FALSIFIED, MISCLASSIFIED
from keras_taps.verification.graph.curves import UnknownFunctionError
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.traverse import foreign

# What numbers may do to code that is made for others; whoever wrote them has shown nothing.
_BEYOND = (ArithmeticError, LookupError, MemoryError, RecursionError, ValueError)
_NEEDED = (CERTIFIED, FALSIFIED)  # what the image alone does not show


@dataclass
class Recheck:
    """What a second look at a report confirmed.

    Args:
        images: Number of images that the report must speak of: those of the data, if they were
            given, else as many as its header says.
        records: Number of its records.
        eps: Radius that it is about, a number or an array that broadcasts to one input; or, where
            each record has its own, a dictionary from each confirmed index to its radius.
        domain: `Domain` that its inputs lie in.
        confirmed: Indices of the images whose record holds.
        rejected: Dictionary from an index to the reason.
        without: Indices of verdicts without a file to repeat them from, and of images so near to a
            tie that rounding alone could give them the class of the record.
        twice: Indices that several records have, none of which counts.
        missing: Number of images without a record.
        verdicts: Dictionary from each confirmed index to its verdict.
        deployed: Indices proved for the float32 network too.
        compared: Which of 'network', 'images', 'labels', 'eps' and 'domain' are the receiver's.
        trusted: Functions of somebody's own on which every proof rests.
    """

    images: int
    records: int
    eps: object
    domain: Domain
    confirmed: list = field(default_factory=list)
    rejected: dict = field(default_factory=dict)
    without: list = field(default_factory=list)
    twice: list = field(default_factory=list)
    missing: int = 0
    verdicts: dict = field(default_factory=dict)
    deployed: list = field(default_factory=list)
    compared: tuple = ()
    trusted: tuple = ()

    def accuracies(self):
        """Shares of all images, in [0, 1], that follow from what was confirmed.

        Returns:
            Dictionary: `natural` (given the right class), `certified`, `certified_as_deployed`.
        """
        counts, total = Counter(self.verdicts.values()), max(self.images, 1)
        return {
            "natural": (len(self.verdicts) - counts[MISCLASSIFIED]) / total,
            "certified": counts[CERTIFIED] / total,
            "certified_as_deployed": len(self.deployed) / total,
        }

    @property
    def holds(self):
        """Whether every claim was confirmed and no image is missing."""
        return self.true and not self.missing and not self.without

    @property
    def true(self):
        """Whether something was confirmed and nothing is wrong, though images may be left out."""
        return bool(self.confirmed) and not self.rejected and not self.twice


def recheck(
    path: str | Path,
    graph: Graph | None = None,
    x: ArrayLike | None = None,
    y: ArrayLike | None = None,
    eps: ArrayLike | None = None,
    progress: Callable[[int, int], object] | None = None,
    domain: Any = UNIT,
    trusted: Sequence[str] = (),
) -> Recheck:
    """Check every record of a report again, in float64 with its rounding.

    A report and its files come from one hand: they prove what they say of the network and the
    images in them. Give `graph`, `x` and `y` to see that these are the ones that you mean. What
    decides is then yours or derived again; times, stages and settings are not checked.

    Args:
        path: Path of the report; its folder of files lies beside it.
        graph: `Graph` that the report must be about, by default the one stored beside it.
        x: Array of all images that the report must speak of, `x[index]` for each record, or `None`.
        y: Integer array of their labels, with `x`.
        eps: Radius that the report must be about, by default the one in it; or one for each image,
            as for `certify`: each record must be about that of its image, neither more nor less.
        progress: Called as `progress(done, total)`.
        domain: `(low, high)` or `None`: what values the inputs of the report must be allowed to
            take, by default [0, 1], for a narrow domain makes a small box of any radius; 'report'
            for those that it says.
        trusted: Names of functions that are not the checker's own, but were registered by
            `register_function`, and that you believe to be what that says of them.

    Returns:
        `Recheck`.

    Raises:
        FileNotFoundError: If the report or its network is not there.
        ValueError: If they are damaged, about another network, radius or domain, or rest on a
            function that is not among `trusted`.
    """
    if x is None and y is not None:
        raise ValueError("`y` must come with `x`, the images that it labels. Received: y alone")
    header, records = read_report(path)
    own = graph
    if graph is None:
        graph = _stored(files_of(path) / "network.npz")
    if graph.hash != header["network"]:
        raise ValueError(
            f"The report is about network {header['network'][:12]}. "
            f"Received: network {graph.hash[:12]}"
        )
    strange = foreign(graph.nodes)
    trusted = [trusted] if isinstance(trusted, str) else list(trusted)
    if set(strange) - set(trusted):
        raise ValueError(
            f"Every proof about this network rests on functions of somebody's own: {strange}. What "
            "register_function was told of them cannot be checked. Accepted: the names of those "
            f"that you trust. Received: trusted={trusted}"
        )
    said = isinstance(domain, str) and domain == "report"
    own_domain = None if said else Domain.of(domain).fitted(graph.in_shape)
    images = None if x is None else np.asarray(x, "float32")
    labels = None if y is None else np.asarray(y).reshape(-1)
    given = {"network": own, "images": images, "labels": labels, "eps": eps, "domain": own_domain}
    total = header["count"] if images is None else len(images)
    radius, told, radii = _boxes(header, graph.in_shape, eps, total, own_domain)
    own_radii = {} if radius is None else radius
    found = Recheck(total, len(records), own_radii, told, twice=named_twice(records))
    found.trusted = tuple(strange)
    found.compared = tuple(name for name, value in given.items() if value is not None)
    known = {record["index"] for record in records}
    inside = known if images is None else {index for index in known if index < total}
    if len(known) > header["count"]:
        raise ValueError(f"The report has {len(known)} inputs; its header says {header['count']}.")
    found.missing = max(total, header["count"]) - len(inside)
    try:
        claims = Claims(graph, radius, images, labels, told, radii)
    except _BEYOND as error:
        raise ValueError(f"The network of '{path}' cannot be checked: {error!r:.200}.") from error
    todo = [record for record in records if record["index"] not in found.twice]
    for done, record in enumerate(todo):
        _look(found, claims, record, files_of(path))
        if progress:
            progress(done + 1, len(todo))
    return found


def _boxes(header, shape, eps, count, domain):
    """Radius and `Domain` of a report, and the receiver's `Radii` or `None`.

    Raises:
        ValueError: If they do not fit inputs of this shape, or are not those of the receiver.
    """
    told = Domain.of(header["domain"])
    try:
        told.fitted(shape)
        radius = header["eps"]
        if radius is not None:
            radius = check_radius("eps", radius, Domain.of(None), shape)
    except ValueError as error:
        raise ValueError(f"The report does not fit its network: {error}") from error
    if domain is not None and not domain.agrees(told, shape):
        raise ValueError(
            f"The report is about inputs in {told}. Received: domain={domain}. If it is what your "
            "inputs may be, say so by `domain`"
        )
    radii = None if eps is None else Radii.of(eps, shape, count, told)
    one = radii is not None and radius is not None and not radii.differ
    if one and not same(radii.shared, radius, shape):
        raise ValueError(f"The report is about eps {header['eps']!s:.200}. Received: eps={eps!r}")
    return radius, told, radii


def _look(found, claims, record, folder):
    index, verdict = record["index"], record["verdict"]
    path = file_of(folder, index, verdict)
    if not path.is_file():
        if verdict in _NEEDED or claims.images is None:
            found.without.append(index)
            return
        path = None
    try:
        deployed = claims.check(record, path)
    except Undecided:
        found.without.append(index)
        return
    except Doubt as doubt:
        found.rejected[index] = str(doubt)
        return
    except _BEYOND as error:
        found.rejected[index] = f"it cannot be checked: {error!r:.200}"
        return
    found.confirmed.append(index)
    if claims.eps is None:
        found.eps[index] = claims.radius(record)
    found.verdicts[index] = verdict
    if deployed:
        found.deployed.append(index)


def _stored(path):
    if not path.is_file():
        raise FileNotFoundError(f"The network of the report, '{path}', is not there.")
    try:
        return Graph.load(path)
    except UnknownFunctionError as error:
        raise ValueError(f"'{path}' cannot be read: {error}.") from error
    except (*_BEYOND, OSError) as error:
        raise ValueError(f"'{path}' is damaged ({error}).") from error
