"""`keras-taps export`: a model as ONNX and its robustness as VNNLIB, for other verifiers."""

from pathlib import Path

import numpy as np
import typer

from keras_taps.cli.output import console, make_folder_of, print_json
from keras_taps.cli.target import DOMAIN, Target, parse_one_radius, radius_name
from keras_taps.domain import UNIT

NAME = "export"


def run(
    target: Path = typer.Argument(..., help="Run folder, or a .keras file."),
    onnx: Path = typer.Option(None, "--onnx", help="File to write, by default TARGET.onnx."),
    index: list[str] = typer.Option(
        [], "--index", help="Write the property of this test image, or of 0:10; may be repeated."
    ),
    eps: str = typer.Option(None, "--eps", help="Radius of the properties: 0.1 or 2/255."),
    domain: str = DOMAIN,
    dataset: str = typer.Option(
        None, "--dataset", help="Test images of a .keras file: a name, or an .npz with x and y."
    ),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Write ONNX (NCHW, normalisation folded) and VNNLIB properties of test images.

    Example: `keras-taps export runs/taps --onnx taps.onnx --eps 0.1 --index 0:10`
    """
    radii = parse_one_radius(eps, domain)
    if radii and not index:
        raise ValueError("--eps is about test images: say which with --index. Received: no --index")
    from keras_taps.verification import read_network, write_onnx, write_vnnlib

    subject = Target(target, dataset, domain)
    graph = read_network(subject.network)
    onnx = subject.folder() / f"{subject.name}.onnx" if onnx is None else onnx
    properties = {}
    if index:
        (radius,) = subject.radii(radii)
        x, y = subject.images(None, data_dir)
        for number in parse_indices(index, len(x)):
            name = f"{onnx.stem}-{radius_name(radius)}-{number}.vnnlib"
            sets = robustness(x[number], int(y[number]), radius, graph.outputs, subject.domain)
            properties[onnx.with_name(name)] = sets
    make_folder_of(onnx)
    write_onnx(graph, onnx)
    shape = graph.in_shape
    shape = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    for path, sets in properties.items():
        write_vnnlib(sets, path, shape)
    if as_json:
        written = {"onnx": str(onnx), "vnnlib": [str(path) for path in properties]}
        print_json({**written, "input": shape, "outputs": graph.outputs, "network": graph.hash})
        return
    console.print(f"{onnx}: input {shape}, {graph.outputs} outputs", soft_wrap=True)
    for path in properties:
        console.print(str(path), soft_wrap=True)


def robustness(x, label, eps, classes, domain=UNIT):
    """One `Unsafe` set for each wrong class of the image `x`."""
    from keras_taps.verification import Query, Unsafe

    query = Query.around(x, label, eps, classes, domain=domain)
    return [Unsafe(query.lower, query.upper, form[None], np.zeros(1)) for form in query.forms]


def parse_indices(texts, count):
    """Numbers of images from texts such as "3" or "0:10".

    Example:

    >>> parse_indices(["7", "0:2"], 100)
    [7, 0, 1]
    """
    found = []
    for text in texts:
        first, colon, end = text.partition(":")
        if not first.isdecimal() or (colon and not end.isdecimal()):
            raise ValueError(f"--index takes a number or a range 0:10. Received: --index {text}")
        found += range(int(first), int(end) if colon else int(first) + 1)
    beyond = [number for number in found if number >= count]
    if beyond:
        raise ValueError(f"--index must be below {count}, the test images. Received: {beyond[0]}")
    return list(dict.fromkeys(found))
