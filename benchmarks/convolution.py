"""Convolutions and their derivatives on JAX's CPU: JAX's own against those of keras_taps.

    python benchmarks/convolution.py

Speed of a gradient with respect to the images at the top level of a compiled program, of ten
outputs and gradients in a loop, as an attack takes them, and of both gradients in a branch, as a
training step with two phases takes them. The two implementations take turns; minima of several
rounds.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from provenance import RESULTS, provenance, write_json

SHAPES = (  # batch, pixels, channels in and out, window, stride
    (64, 28, 16, 16, 3, 1),
    (64, 28, 16, 32, 3, 2),
    (64, 14, 32, 32, 3, 1),
    (576, 14, 32, 32, 3, 1),
    (256, 28, 1, 1, 5, 2),  # of few channels, computed by rows
    (2304, 14, 1, 2, 4, 2),
    (288, 28, 1, 4, 3, 1),
    (288, 28, 4, 4, 4, 2),
    (64, 28, 1, 16, 3, 1),
)
LOOPS = 10


def programs(function):
    """The compiled programs that are timed, with how often each computes the convolution."""
    import jax

    def image_gradient(x, kernel, rows):
        return jax.vjp(lambda x: function(x, kernel), x)[1](rows)[0]

    def loop(x, kernel, rows):
        def step(_, x):
            # As in an attack, where to go depends on the outputs at x.
            return x + 0.1 * image_gradient(x, kernel, rows + function(x, kernel))

        return jax.lax.fori_loop(0, LOOPS, step, x)

    def branch(x, kernel, rows):
        def both():
            return jax.vjp(function, x, kernel)[1](rows)

        return jax.lax.cond(rows.sum() < 1e30, both, lambda: (x, kernel))

    top, count = jax.jit(image_gradient), 1
    return {"top": (top, count), "loop": (jax.jit(loop), 2 * LOOPS), "branch": (jax.jit(branch), 2)}


def measure(shape, rounds):
    """GFLOP/s of each program of each implementation."""
    import jax
    from keras import ops

    from keras_taps import backend

    batch, pixels, channels, filters, window, stride = shape
    random = np.random.default_rng(0)
    x = ops.convert_to_tensor(random.normal(size=(batch, pixels, pixels, channels)), "float32")
    kernel = random.normal(size=(window, window, channels, filters))
    kernel = ops.convert_to_tensor(kernel, "float32")
    functions = {
        "jax": lambda x, k: ops.conv(x, k, strides=stride, padding="same"),
        "keras_taps": lambda x, k: backend.convolution(
            x, k, stride, "same", "channels_last", (1, 1)
        ),
    }
    rows = functions["jax"](x, kernel)
    flop = 2 * rows.size * window * window * channels
    made = {name: programs(function) for name, function in functions.items()}
    best = {name: dict.fromkeys(each, np.inf) for name, each in made.items()}
    for _ in range(rounds + 1):  # the first round compiles; minima do not see it
        for name, each in made.items():
            for place, (run, count) in each.items():
                began = time.perf_counter()
                jax.block_until_ready(run(x, kernel, rows))
                seconds = time.perf_counter() - began
                best[name][place] = min(best[name][place], seconds / count)
    speeds = {
        name: {place: flop / s / 1e9 for place, s in each.items()} for name, each in best.items()
    }
    return {"shape": list(shape), "gflops": speeds}


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "convolution.json")
    options = parser.parse_args(arguments)
    os.environ["KERAS_BACKEND"] = "jax"  # Keras reads it when it is imported
    records = [measure(shape, options.rounds) for shape in SHAPES]
    for record in records:
        print(record["shape"], record["gflops"], flush=True)
    write_json(options.output, {"records": records, "provenance": provenance()})


if __name__ == "__main__":
    main()
