"""Properties in VNNLIB, the format of the verification competition, versions 1.0 and 2.0: read.

A file asserts what a counterexample satisfies. Reading brings it into disjunctive normal form and
makes one `Unsafe` set a disjunct. Every set contains the one in the file, so that a proof that it
is empty holds for the file: strict bounds of inputs are read as closed ones, and a bound that
float64 cannot hold is rounded outward. For counterexamples `inner` holds the outermost float64
numbers that meet the bounds as they are written, and strict conditions on outputs stay strict.

References:
    "The VNN-LIB standard", version 2.0, https://www.vnnlib.org
"""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from keras_taps.verification.formats.onnx_reader import OnnxNetwork
from keras_taps.verification.formats.vnnlib_formulas import Variable
from keras_taps.verification.formats.vnnlib_scalars import Scalars
from keras_taps.verification.formats.vnnlib_sets import unsafe_sets
from keras_taps.verification.formats.vnnlib_tensors import Tensors
from keras_taps.verification.formats.vnnlib_text import TOKENS_2, forms, tokens
from keras_taps.verification.graph.unsafe import Unsafe


@dataclass(frozen=True)
class Property:
    """What a file says.

    Args:
        sets: List of `Unsafe`.
        version: '1.0' or '2.0'.
        network: Name that the file gives the network, `None` in version 1.0.
        variables: Pair of `Variable`, the input and the output.
    """

    sets: list[Unsafe]
    version: str
    network: str | None
    variables: tuple[Variable, Variable]


def read_vnnlib(path: str | Path, network: OnnxNetwork) -> list[Unsafe]:
    """Read the sets of counterexamples of a property, in version 1.0 or 2.0.

    Args:
        path: Path of a `.vnnlib` or `.vnnlib.gz` file; its first expression tells the version.
        network: `OnnxNetwork`; it says how inputs are ordered and how many there are.

    Returns:
        List of `Unsafe`. Disjuncts that contradict themselves are left out, so the list may be
        empty; disjuncts that constrain no output have no forms.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The text is no VNNLIB, does not fit the network, leaves an input unbounded, is
            not linear, bounds inputs otherwise than one by one, or declares several networks,
            several inputs or outputs, or hidden nodes.

    Example:

    >>> sets = read_vnnlib("property.vnnlib", read_onnx("network.onnx"))  # doctest: +SKIP
    """
    return read_property(path, network).sets


def read_property(path: str | Path, network: OnnxNetwork) -> Property:
    """Read a property and what its file declares; arguments and errors of `read_vnnlib`."""
    path = Path(path)
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (EOFError, UnicodeDecodeError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not text or is damaged: {error}") from None
    pattern = tokens(text)
    reader = (Tensors if pattern is TOKENS_2 else Scalars)(network)
    parts = []
    for line, form in forms(path, text, pattern):
        try:
            parts += reader.command(form)
        except ValueError as error:
            raise ValueError(f"{path}, line {line}: {error}") from None
    try:
        variables = reader.finished()
        sets = unsafe_sets(parts, network, reader.spell)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return Property(sets, reader.version, reader.name, variables)
