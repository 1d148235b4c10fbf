"""Arrays of an `.npz` file, and their hashes."""

import ast
import math
import struct
import zipfile
from fractions import Fraction

MOST = 2**30
CODES = {"<f4": "f", "<f8": "d", "<i8": "q", "<i4": "i", "|u1": "B", "|b1": "?"}


def read_arrays(path):
    """Dictionary of `(type, shape, flat list)` of an `.npz` file."""
    found, room = {}, MOST
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                head = file.read(8)
                size = {1: "<H", 2: "<I"}[head[6]]
                assert head[:6] == b"\x93NUMPY"
                (length,) = struct.unpack(size, file.read(struct.calcsize(size)))
                about = ast.literal_eval(file.read(length).decode())
                kind, shape, count = about["descr"], about["shape"], math.prod(about["shape"])
                code = f"<{count}{CODES[kind]}" if kind in CODES else f"{4 * int(kind[2:])}s"
                room -= struct.calcsize(code)
                assert room >= 0
                assert not about["fortran_order"] or len(shape) < 2
                values = struct.unpack(code, file.read())
            if kind not in CODES:
                values = values[0].decode("utf-32-le").rstrip("\0")
            found[member.filename.removesuffix(".npy")] = kind, shape, values
    return found


def as_hash(kind, shape, values, line="\n"):
    digest = f"{kind} {list(shape)}{line}".encode()
    return digest + struct.pack(f"<{len(values)}{CODES[kind]}", *values)


def exact(values):
    return [Fraction(value) for value in values]
