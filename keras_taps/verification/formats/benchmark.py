"""A benchmark in the layout of the verification competition, for other verifiers."""

import csv
import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from keras_taps.files import write_atomically
from keras_taps.verification.formats.onnx_writer import write_onnx
from keras_taps.verification.formats.vnnlib_sets import below
from keras_taps.verification.formats.vnnlib_writer import VERSIONS, write_vnnlib
from keras_taps.verification.graph.graph import Graph
from keras_taps.verification.graph.nodes import Scale
from keras_taps.verification.graph.unsafe import Unsafe


def write_benchmark(
    graph: Graph,
    properties: Mapping[str, Sequence[Unsafe]],
    folder: str | Path,
    name: str = "network",
    timeout: float = 300,
    versions: Sequence[str] = VERSIONS,
) -> None:
    """Write a folder a version of VNN-LIB, with `onnx/`, `vnnlib/` and `instances.csv`.

    Args:
        graph: `Graph`.
        properties: Dictionary from names of files, without an ending, to lists of `Unsafe`.
        folder: Folder in which `1.0/` and `2.0/` are made.
        name: Name of the network's file, without an ending.
        timeout: Seconds of an instance.
        versions: Out of '1.0' and '2.0'.

    Raises:
        ValueError: A node has no form in ONNX, or a property does not fit the graph.

    Example:

    >>> write_benchmark(graph, {"image-0": sets}, "benchmark")  # doctest: +SKIP
    """
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    for instance in properties:
        writer.writerow([f"onnx/{name}.onnx", f"vnnlib/{instance}.vnnlib", f"{timeout:g}"])
    for version in versions:
        own = Path(folder) / version
        for part in ("onnx", "vnnlib"):
            (own / part).mkdir(parents=True, exist_ok=True)
        write_onnx(graph, own / "onnx" / f"{name}.onnx")
        for instance, sets in properties.items():
            path = own / "vnnlib" / f"{instance}.vnnlib"
            write_vnnlib(sets, path, file_shape(graph), version)
        write_atomically(own / "instances.csv", lambda path: path.write_text(rows.getvalue()))


def file_shape(graph: Graph) -> tuple[int, ...]:
    """Shape of one input in the file that `write_onnx` writes: images have channels first."""
    shape = graph.in_shape
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def without_normalisation(
    graph: Graph, properties: Mapping[str, Sequence[Unsafe]]
) -> tuple[Graph, dict[str, list[Unsafe]]]:
    """Take the normalisation off a network, and put it into the bounds of its properties.

    A bound l of an input becomes s l + t, for the numbers s and t with which the graph begins, in
    exact arithmetic and then rounded outward to float64. So the new box contains all normalised
    inputs of the old one: where a new property holds, the old one does. Each of its sides lies
    less than one float64 outside.

    Args:
        graph: `Graph` that begins with its normalisation.
        properties: Dictionary of lists of `Unsafe`.

    Returns:
        `(graph, properties)` of normalised inputs.

    Raises:
        ValueError: If the network does not begin with a normalisation.
    """
    kinds = [isinstance(node, Scale) for node in graph.source]
    count = kinds.index(False)
    if not count:
        raise ValueError(
            "the network must begin with a normalisation. "
            f"Received: {type(graph.source[0]).__name__} at its beginning"
        )
    scales, rest = graph.source[:count], Graph.of(graph.source[count:])
    moved = {
        name: [_normalised(scales, unsafe) for unsafe in sets] for name, sets in properties.items()
    }
    return rest, moved


def _normalised(scales, unsafe):
    lower, upper = _fractions(unsafe.lower), _fractions(unsafe.upper)
    for node in scales:
        scale, shift = (
            _fractions(np.broadcast_to(v, lower.shape)) for v in (node.scale, node.bias)
        )
        ends = scale * lower + shift, scale * upper + shift
        lower, upper = np.minimum(*ends), np.maximum(*ends)
    down = np.vectorize(below, otypes=["float64"])
    sides = down(lower) + 0.0, -down(-upper) + 0.0  # + 0.0: no minus before a zero
    return Unsafe(*sides, unsafe.weights, unsafe.offset, unsafe.strict)


_fractions = np.vectorize(Fraction, otypes=[object])
