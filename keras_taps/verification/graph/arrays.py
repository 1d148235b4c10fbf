"""The boundary of files: every array that comes from outside passes here before anything uses it.

An `.npz` file is a zip archive of `.npy` members. What a member claims to be, its type and shape,
stands in its header; it is compared with what is expected, and with what may be asked of memory,
before its numbers are read.
"""

import ast
import math
import struct
import zipfile
from dataclasses import dataclass

import numpy as np

LARGEST = 2**30  # bytes of all arrays of a file
_TEXT = 2**24  # bytes of a text: what is parsed takes many times as much
_PREFIX = {(1, 0): "<H", (2, 0): "<I"}
_HEADER = 2**14  # bytes; that of a plain array has about a hundred


@dataclass(frozen=True)
class Expected:
    """What an array must be.

    Args:
        types: Types as NumPy spells them, such as '<f4'; text is '<U', of any length.
        shape: Tuple with `None` for a length that is free, or `None` for any shape.
        low: Smallest number.
        high: Largest number.
        nan: Whether NaN may occur.
    """

    types: tuple
    shape: tuple | None
    low: float = -math.inf
    high: float = math.inf
    nan: bool = False


def read_arrays(path, expected, others=None, largest=LARGEST):
    """Arrays of an `.npz` file by name.

    Args:
        path: Path of the file.
        expected: Dictionary from each name that must be there to its `Expected`.
        others: Function from any other name to its `Expected`, or to `None` if there may be no such
            array; by default there may be none.
        largest: Bytes that all arrays together may take.

    Returns:
        Dictionary of arrays.

    Raises:
        ValueError: If the file is not an archive, an array is missing, is one too many, has another
            type or shape, numbers that are not finite or out of range, or the file asks for more
            memory.
        OSError: If the file cannot be read.
    """
    found, total = {}, 0
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                rule = expected.get(name) or (others(name) if others else None)
                if rule is None or name == member.filename:
                    raise ValueError(f"it has an array {name[:40]!r} that it should not have")
                if name in found:
                    raise ValueError(f"it has two arrays {name!r}")
                with archive.open(member) as file:
                    found[name], size = _read(file, name, rule, largest - total)
                total += size
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"it is damaged ({error})") from error
    except Exception as error:
        if isinstance(error, (ValueError, OSError)):
            raise
        raise ValueError(f"it is damaged ({error})") from error  # zlib.error, struct.error, ...
    missing = [name for name in expected if name not in found]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")
    return found


def _read(file, name, rule, room):
    kind, shape = _header(file, name)
    text = kind.startswith("<U")
    if kind not in rule.types and not (text and "<U" in rule.types):
        raise ValueError(f"`{name}` has the type {kind}, not {' or '.join(rule.types)}")
    fits = rule.shape is None or (
        len(shape) == len(rule.shape)
        and all(want in (None, got) for want, got in zip(rule.shape, shape, strict=True))
    )
    if not fits:
        wanted = str(rule.shape).replace("None", "n")
        raise ValueError(f"`{name}` has the shape {shape}, not {wanted}")
    dtype = np.dtype(kind)
    size = math.prod(shape) * dtype.itemsize
    if text and size > _TEXT:
        raise ValueError(f"`{name}` asks for {size} bytes; a text may take {_TEXT}")
    if size > room:
        raise ValueError(f"`{name}` asks for {size} bytes; all arrays may take {LARGEST}")
    data = file.read(size)
    if len(data) != size or file.read(1):
        raise ValueError(f"`{name}` has other than {size} bytes")
    array = np.frombuffer(data, dtype).reshape(shape)
    if dtype.kind in "iufb" and array.size:
        known = ~np.isnan(array) if rule.nan else np.ones(shape, bool)
        inside = (array >= rule.low) & (array <= rule.high) & (np.isfinite(array))
        if not np.all(inside | ~known):
            raise ValueError(f"`{name}` has numbers that are not finite or out of range")
    return array, size


def _header(file, name):
    """Type and shape of an array, from the head of its `.npy` file in row-major order."""
    magic = file.read(8)
    prefix = _PREFIX.get(tuple(magic[6:8]))
    if magic[:6] != b"\x93NUMPY" or prefix is None:
        raise ValueError(f"`{name}` is not an array")
    (length,) = struct.unpack(prefix, file.read(struct.calcsize(prefix)))
    if length > _HEADER:
        raise ValueError(f"`{name}` has a header of {length} bytes")
    try:
        header = ast.literal_eval(file.read(length).decode("latin1"))
        kind, shape, columns = header["descr"], header["shape"], header["fortran_order"]
        whole = all(type(n) is int and 0 <= n < 2**48 for n in shape)
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError):
        raise ValueError(f"`{name}` has a header that says nothing") from None
    if type(kind) is not str or type(shape) is not tuple or not whole or len(shape) > 8:
        raise ValueError(f"`{name}` has a header that says nothing")
    if columns is not False and len([n for n in shape if n > 1]) > 1:
        raise ValueError(f"`{name}` is in column-major order")
    return kind, shape
