"""In which precision an attack searches, decided by a product that is timed on the device."""

import functools
import time

import numpy as np
from keras import ops

from keras_taps.checks import check_choice

SEARCH_DTYPES = ("float32", "bfloat16", "auto")
_GAIN = 1.3  # by which products must be faster, because an attack is not products alone
_LONG_ENOUGH = 5e-3  # seconds that a product must take to be told from its launch
_SIZES = (512, 1024, 2048, 4096, 8192)
_TOGETHER = 4  # products of one measurement


def chosen_dtype(name: str) -> str:
    """'float32' or 'bfloat16': what a `search_dtype` stands for on this device.

    Args:
        name: 'float32', the precision of the network itself; 'bfloat16'; or 'auto', bfloat16 where
            `product_seconds` finds it faster by 1.3 times. Devices without units for it can be
            a hundred times slower, others four times faster, so their names decide nothing.

    Raises:
        ValueError: For another name.

    Example:

    >>> chosen_dtype("float32")
    'float32'
    """
    if check_choice("search_dtype", name, SEARCH_DTYPES) != "auto":
        return name
    seconds = product_seconds()
    return "bfloat16" if seconds["float32"] > _GAIN * seconds["bfloat16"] else "float32"


@functools.cache
def product_seconds() -> dict[str, float]:
    """Seconds of a matrix product by precision, the best of a few on this process' device.

    The matrices grow until a product takes five milliseconds in float32. Timed once a process.
    """
    for size in _SIZES:
        seconds = _seconds("float32", size)
        if seconds > _LONG_ENOUGH:
            break
    return {"float32": seconds, "bfloat16": _seconds("bfloat16", size, enough=2 * seconds)}


def _seconds(dtype, size, repeats=3, enough=np.inf):
    """Least seconds of a product, its result's arrival included; none is better after `enough`."""
    x = ops.ones((size, size), dtype=dtype)
    found = []
    for _ in range(1 + repeats):  # the first compiles
        began = time.perf_counter()
        for _ in range(_TOGETHER):
            product = ops.matmul(x, x)
        ops.convert_to_numpy(ops.cast(product[0, 0], "float32"))
        found.append((time.perf_counter() - began) / _TOGETHER)
        if len(found) > 1 and found[-1] > enough:
            break
    return min(found[1:])
