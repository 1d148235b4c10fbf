"""`keras-taps export`: a model as ONNX and its robustness as VNN-LIB, for other verifiers."""

from pathlib import Path

import numpy as np
import typer

from keras_taps.checks import check_choice, check_count, check_real
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
    folder: Path = typer.Option(
        None,
        "--folder",
        help="Write a whole benchmark of the competition: 1.0/ and 2.0/ with onnx/, vnnlib/ and "
        "instances.csv.",
    ),
    images: int = typer.Option(
        None, "--images", help="Instead of --index: the first N that the network gets right."
    ),
    timeout: float = typer.Option(300, "--timeout", help="Seconds of an instance of the folder."),
    vnnlib: list[str] = typer.Option(
        [], "--vnnlib", help="Version 1.0 or 2.0; by default 1.0, and both in a folder."
    ),
    normalised: bool = typer.Option(
        False,
        "--normalised",
        help="Inputs of the network are normalised: bounds of properties, rounded outward, too.",
    ),
    eps: str = typer.Option(None, "--eps", help="Radius of the properties: 0.1 or 2/255."),
    domain: str = DOMAIN,
    dataset: str = typer.Option(
        None, "--dataset", help="Test images of a .keras file: a name, or an .npz with x and y."
    ),
    data_dir: str = typer.Option(None, "--data-dir", help="Folder of TFDS data sets."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
):
    """Write ONNX (NCHW, normalisation folded) and VNN-LIB properties of test images.

    Example: `keras-taps export runs/taps --onnx taps.onnx --eps 0.1 --index 0:10`

    A benchmark: `keras-taps export runs/taps --folder taps --eps 0.1 --images 100`
    """
    radii = parse_one_radius(eps, domain)
    _check_choices(radii, index, images, folder, onnx, timeout)
    versions = _versions(vnnlib, folder)
    from keras_taps.verification import read_network, write_onnx, write_vnnlib
    from keras_taps.verification.formats.benchmark import (
        file_shape,
        without_normalisation,
        write_benchmark,
    )

    subject = Target(target, dataset, domain)
    graph = read_network(subject.network)
    if onnx is None:
        onnx = (subject.folder() if folder is None else folder) / f"{subject.name}.onnx"
    properties = {}
    if index or images:
        (radius,) = subject.radii(radii)
        x, y = subject.images(None, data_dir)
        numbers = parse_indices(index, len(x)) if index else first_right(graph, x, y, images)
        for number in numbers:
            sets = robustness(x[number], int(y[number]), radius, graph.outputs, subject.domain)
            properties[f"{onnx.stem}-{radius_name(radius)}-{number}"] = sets
    if normalised:
        graph, properties = without_normalisation(graph, properties)
    make_folder_of(onnx)
    shape, files = file_shape(graph), []
    if folder is None:
        write_onnx(graph, onnx)
        for name, sets in properties.items():
            files.append(onnx.with_name(f"{name}.vnnlib"))
            write_vnnlib(sets, files[-1], shape, *versions)
    else:
        write_benchmark(graph, properties, folder, onnx.stem, timeout, versions)
        files = [folder / version / "instances.csv" for version in versions]
        onnx = folder / versions[-1] / "onnx" / onnx.name
    if as_json:
        kind = "vnnlib" if folder is None else "instances"
        written = {"onnx": str(onnx), kind: [str(path) for path in files]}
        print_json({**written, "input": shape, "outputs": graph.outputs, "network": graph.hash})
        return
    console.print(f"{onnx}: input {shape}, {graph.outputs} outputs", soft_wrap=True)
    for path in files:
        console.print(str(path), soft_wrap=True)


def _check_choices(radii, index, images, folder, onnx, timeout):
    """Raise unless options go together."""
    if radii and not index and images is None:
        raise ValueError(
            "--eps is about test images: say which with --index or --images. Received: neither"
        )
    if index and images is not None:
        raise ValueError("--index and --images both choose images. Received: both")
    if images is not None:
        check_count("--images", images, 1)
    if folder is not None and (onnx is not None or not (index or images)):
        raise ValueError("--folder needs --index or --images, and takes no --onnx")
    check_real("--timeout", timeout, 0, np.inf, low_open=True)


def _versions(vnnlib, folder):
    """Versions of VNN-LIB to write."""
    versions = list(dict.fromkeys(check_choice("--vnnlib", v, ("1.0", "2.0")) for v in vnnlib))
    if not versions:
        return ["1.0"] if folder is None else ["1.0", "2.0"]
    if folder is None and len(versions) > 1:
        raise ValueError("--vnnlib is taken once without --folder. Received: 1.0 and 2.0")
    return versions


def first_right(graph, x, y, count):
    """Numbers of the first `count` images that a graph gives their label."""
    found = []
    for start in range(0, len(x), 100):
        right = graph(x[start : start + 100]).argmax(-1) == y[start : start + 100]
        found += (start + np.flatnonzero(right)).tolist()
        if len(found) >= count:
            return found[:count]
    raise ValueError(
        f"--images must be at most {len(found)}, which the network gets right. Received: {count}"
    )


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
