"""Small convolutions as matrices: an output and an input gradient, both ways, for many shapes.

    python benchmarks/small_convolutions.py --backend tensorflow

Shows from which number of entries on a convolution is faster than the matrix that does the same;
`keras_taps.layers.folding` draws the line. The two ways take turns; medians of several rounds.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from provenance import RESULTS, add_record, provenance

POINTS = 1000
SHAPES = (  # pixels, channels in and out, window, stride
    (10, 1, 16, 5, 2),
    (16, 1, 2, 4, 2),
    (10, 1, 4, 3, 1),
    (16, 1, 4, 4, 2),
    (9, 8, 16, 4, 2),
    (10, 1, 16, 3, 1),
    (32, 1, 1, 5, 2),
    (9, 8, 8, 3, 1),
    (16, 4, 8, 4, 2),
    (10, 16, 16, 4, 2),
    (10, 16, 16, 3, 1),
    (32, 1, 16, 5, 2),
    (16, 16, 32, 4, 2),
)


def measure(shape, rounds):
    """Seconds of both ways."""
    import keras
    from keras import ops

    from keras_taps import backend
    from keras_taps.layers import IntervalConv2D, folding

    pixels, channels, filters, window, stride = shape
    inputs = (pixels, pixels, channels)
    layer = IntervalConv2D(filters, window, strides=stride)
    layer.build((None, *inputs))
    numbers = np.random.default_rng(0).normal(size=(POINTS, *inputs))
    x = ops.convert_to_tensor(numbers.astype("float32"))
    limit, ways = folding._MATRIX_SIZE, {}
    for name, largest in (("convolution", 0), ("matrix", 10**9)):
        folding._MATRIX_SIZE = largest
        (affine,) = folding.fold([layer], inputs)

        def gradient(x, affine=affine):
            return backend.input_gradient(lambda x: ops.relu(affine(x)), x)

        ways[name] = backend.compiled(gradient, [])
    folding._MATRIX_SIZE = limit
    seconds = {name: [] for name in ways}
    for turn in range(rounds + 1):  # the first compiles
        for name, run in ways.items():
            began = time.perf_counter()
            _, found = run(x)
            ops.convert_to_numpy(found[:1])  # wait for it
            if turn:
                seconds[name].append(time.perf_counter() - began)
    entries = int(np.prod(inputs) * np.prod(layer.compute_output_shape((1, *inputs))))
    return {
        "shape": list(shape),
        "backend": keras.backend.backend(),
        "points": POINTS,
        "entries": entries,
        "matrix": entries <= limit,
        "median_s": {name: float(np.median(values)) for name, values in seconds.items()},
        "provenance": provenance(),
    }


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"), required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS / "small_convolutions.json")
    options = parser.parse_args(arguments)
    os.environ["KERAS_BACKEND"] = options.backend  # Keras reads it when it is imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for shape in SHAPES:
        record = measure(shape, options.rounds)
        print(record["shape"], record["entries"], record["median_s"], flush=True)
        add_record(options.output, record, ("shape", "backend"))


if __name__ == "__main__":
    main()
