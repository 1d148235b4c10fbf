"""Numbers that a device must reproduce: losses, gradients, bounds, attacks, CROWN rows, margins.

    KERAS_BACKEND=jax python benchmarks/gpu_numbers.py measure numbers.npz --networks cnn3 resnet
    python benchmarks/gpu_numbers.py reference          # on a CPU, all three backends
    python benchmarks/gpu_numbers.py compare numbers.npz

Weights, images and the points where attacks start come from NumPy, so that every backend and device
computes the same function. `reference` writes the results of three backends on a CPU;
`compare` holds a file against their mean, operation by operation: the error is the norm of the
difference over the norm of the reference; beside it stands how far the CPU's backends are apart.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).resolve().parent / "results" / "gpu" / "reference.npz"
BACKENDS = ("tensorflow", "jax", "torch")
# network: (input shape, width, whether the rows of CROWN for all neurons are asked for)
NETWORKS = {
    "cnn3": ((14, 14, 1), 4, True),
    "resnet": ((16, 16, 3), 4, False),
    "cnn7": ((28, 28, 1), 8, False),
}
METHODS = {
    "ibp": {},
    "crown-ibp": {},
    "sabr": {"tau_ratio": 0.4},
    "taps": {},
    "staps": {"tau_ratio": 0.4},
    "mtl-ibp": {"alpha": 0.3},
}
# How far an operation may be from the CPU in float32, relative to the norm of the reference. An
# attack takes the signs of gradients, so a rounding error can send a pixel to the other bound.
TOLERANCES = {
    "logits": 1e-5,
    "bounds": 1e-5,
    "crown": 2e-5,
    "loss": 1e-5,
    "gradient": 2e-4,
    "attack": 5e-3,
}
BATCH, EPS, RATE = 8, 0.05, 1024.0
_ENTRIES = 64  # of a gradient that are kept, spread over the whole


def network_of(name):
    """An `IntervalSequential` with weights, averages and batch statistics from NumPy."""
    import keras_taps as kt

    shape, width, _ = NETWORKS[name]
    network = getattr(kt.networks, name)(shape, 10, width=width)
    random = np.random.default_rng(0)
    for weight in network.weights:
        size = tuple(weight.shape)
        if "variance" in weight.path or "gamma" in weight.path:
            value = random.uniform(0.5, 1.5, size)
        elif len(size) > 1:
            value = random.normal(0, 1.2 / np.sqrt(np.prod(size[:-1])), size)
        else:
            value = random.normal(0, 0.1, size)
        weight.assign(value.astype("float32"))
    return network


def batch_of(name):
    """Images in [0, 1] and labels."""
    random = np.random.default_rng(1)
    images = random.uniform(size=(BATCH, *NETWORKS[name][0])).astype("float32")
    return images, random.integers(0, 10, BATCH).astype("int32")


def _share(shape):
    """Where in their boxes points lie, so that no backend draws its own."""
    share = np.random.default_rng(2).random(int(np.prod(shape)))
    share[::7], share[1::7] = 0, 1  # some at the ends
    return share.reshape(shape).astype("float32")


def with_fixed_points(method):
    """A method whose latent points and adversarial images lie at fixed shares of their boxes."""
    from keras import ops

    def points_in(box, *count):
        shape = tuple(box.lower.shape)
        lower, width = box.lower, box.width
        if count:
            shape, lower, width = (shape[0], *count, *shape[1:]), lower[:, None], width[:, None]
        return ops.stop_gradient(lower + ops.convert_to_tensor(_share(shape)) * width)

    class Fixed(method):
        def adversarial_images(self, batch, *rest, **options):
            return points_in(batch.box)

        def latent_attack(self, classifier, features, *rest, **options):
            return points_in(features, classifier.layers[-1].units - 1)

    return Fixed


def step(method, name):
    """Loss of one training step and the gradient of each weight, as the trainer takes them."""
    import keras

    import keras_taps as kt

    kind = with_fixed_points(kt.training.METHODS[method])
    model = kind(network_of(name), eps=EPS, seed=0, **METHODS[method])
    # A step of plain descent shows the gradient: the rate is so long that no rounding hides it.
    model.compile(keras.optimizers.SGD(RATE))
    before = [keras.ops.convert_to_numpy(v.value) * 1.0 for v in model.trainable_variables]
    loss = model.train_on_batch(*batch_of(name), return_dict=True)["loss"]
    after = [keras.ops.convert_to_numpy(v.value) for v in model.trainable_variables]
    found = {"loss": np.array([float(loss)])}
    moved = zip(model.trainable_variables, before, after, strict=True)
    for i, (_, old, new) in enumerate(moved):
        gradient = ((old - new) / RATE).ravel()
        found[f"gradient {i}"] = gradient[:: max(1, gradient.size // _ENTRIES)]
    return found


def searched(network, x, y, steps):
    """Margins at the points that PGD finds from a fixed start, in the image and after a ReLU."""
    from keras import ops

    import keras_taps as kt
    from keras_taps import backend
    from keras_taps.attacks.box_attack import constants, margins_at
    from keras_taps.attacks.pgd import maximise, step_sizes
    from keras_taps.bounds.margins import margin_rows

    box, found = kt.input_box(x, EPS), {}
    extractor, classifier = network.split(1)
    for where, segment, place in (
        ("image", network.segment, lambda: box),
        ("latent", classifier, lambda: extractor(box)),
    ):

        def run(x, segment=segment, place=place):
            inside = kt.Interval(*(bound[:, None] for bound in place()))
            shape = (BATCH, 9, *inside.lower.shape[2:])
            start = inside.lower + ops.convert_to_tensor(_share(shape)) * inside.width
            with constants(segment):
                rows = margin_rows(segment.layers[-1], y)
                return maximise(
                    lambda points: margins_at(segment, points, rows), start, inside,
                    step_sizes(steps),
                )[1]  # fmt: skip

        found[f"attack {where} {steps}"] = backend.compiled(run, network.variables)(x)
    return found


def measure(name):
    """`{operation: array}` of one network on the backend and device of this process."""
    from keras import ops

    import keras_taps as kt
    from keras_taps import backend

    network = network_of(name)
    images, labels = batch_of(name)
    x, y = ops.convert_to_tensor(images), ops.convert_to_tensor(labels)
    box = kt.input_box(x, EPS)

    def forward(x):
        return (
            network(x),
            kt.ibp_margins(network, kt.input_box(x, EPS), y),
            kt.crown_ibp_margins(network, kt.input_box(x, EPS), y),
        )

    logits, bounds, crown = backend.compiled(forward, network.variables)(x)
    found = {"logits": logits, "bounds ibp": bounds, "crown ibp": crown}
    if NETWORKS[name][2]:
        lower, upper = (ops.convert_to_numpy(bound) for bound in box)
        found |= _rows_of_crown(network, lower, upper)
    for steps in (1, 8):
        found |= searched(network, x, y, steps)
    found = {key: ops.convert_to_numpy(value).ravel() for key, value in found.items()}
    for method in METHODS:
        if method != "crown-ibp" or name != "cnn7":  # minutes of compilation for no new operation
            found |= {f"{key} {method}": value for key, value in step(method, name).items()}
    return found


def _rows_of_crown(network, lower, upper):
    """CROWN with the bounds of every unstable neuron by the engine of certification."""
    from keras_taps.verification import Verifier, read_network

    engine = Verifier(read_network(network), batch_size=BATCH, check=False).engine
    boxes = engine.neuron_boxes(lower, upper)
    forms = np.eye(10, dtype="float32")[None].repeat(BATCH, 0)
    rows = engine.crown(lower, upper, forms, np.zeros((BATCH, 10), "float32"), boxes)
    sides = [np.concatenate([side.ravel() for side in box]) for box in boxes]
    return {"crown logits": rows, "crown neurons": np.concatenate(sides)}


def compare(found, reference):
    """`[{network, operation, error, spread, tolerance, within}]`, a row an operation.

    Args:
        found: `{"network/operation": array}`.
        reference: The same from the CPU, `{"backend/network/operation": array}`.
    """
    groups = {}
    for key, value in found.items():
        network, operation = key.split("/")
        kind, *what = operation.split()
        if kind == "gradient":  # all weights of a method in one row
            what = what[1:]
        cpu = [reference[f"{b}/{key}"] for b in BACKENDS if f"{b}/{key}" in reference]
        if not cpu:
            raise ValueError(f"The reference has nothing about '{key}': make it again.")
        row = groups.setdefault((network, " ".join([kind, *what]), kind), [[], []])
        row[0].append(np.asarray(value, "float64").ravel())
        row[1].append(np.stack([np.asarray(c, "float64").ravel() for c in cpu]))
    rows = []
    for (network, operation, kind), (values, cpu) in groups.items():
        value, cpu = np.concatenate(values), np.concatenate(cpu, axis=1)
        centre = cpu.mean(0)
        norm = float(np.linalg.norm(centre)) or 1.0
        error = float(np.linalg.norm(value - centre) / norm)
        spread = max(float(np.linalg.norm(c - centre) / norm) for c in cpu)
        tolerance = TOLERANCES[kind]
        rows.append(
            {
                "network": network,
                "operation": operation,
                "error": error if np.isfinite(error) else None,
                "spread": spread,
                "tolerance": tolerance,
                "within": bool(error <= tolerance),
            }
        )
    return rows


def make_reference(path, networks):
    """Measure on the CPU by every backend; drafts beside `path` let an interrupted call go on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drafts = {(b, n): path.with_name(f"{b}-{n}.npz") for b in BACKENDS for n in networks}
    for (backend, network), draft in drafts.items():
        if not draft.exists():
            command = [sys.executable, __file__, "measure", str(draft), "--networks", network]
            environment = {**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
            subprocess.run(command, check=True, env=environment)
    found = {}
    for (backend, _), draft in drafts.items():
        with np.load(draft) as file:
            found |= {f"{backend}/{key}": file[key].astype("float32") for key in file}
    np.savez_compressed(path, **found)
    for draft in drafts.values():
        draft.unlink()


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("measure", "reference", "compare"))
    parser.add_argument("file", type=Path, nargs="?", default=REFERENCE)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    options = parser.parse_args(arguments)
    if options.kind == "measure":
        found = {
            f"{name}/{operation}": value
            for name in options.networks
            for operation, value in measure(name).items()
        }
        np.savez_compressed(options.file, **found)
    elif options.kind == "reference":
        make_reference(options.file, options.networks)
    else:
        with np.load(options.file) as file, np.load(options.reference) as reference:
            print(json.dumps(compare(dict(file), dict(reference)), indent=1))


if __name__ == "__main__":
    main()
