"""Train a recipe for as many whole epochs as fit into some seconds, and evaluate what there is.

    KERAS_BACKEND=jax python benchmarks/gpu_training.py mnist-0.3-ibp --folder runs/ibp \
        --data DIR --seconds 150 --output training.json

The run is that of `keras-taps train`: the folder's `last.keras` goes on anywhere by `keras-taps
train --resume`, on a CPU too. `--keep` packs the files that fit into what comes back from the
machine: the run folder as a zip, or, of a network too large for that, the weights of its best
epoch in half precision, in parts (`unpack` puts them back into a network of the same recipe).
"""

import argparse
import json
import time
import zipfile
from pathlib import Path

import numpy as np
from provenance import read_json, write_json

PART = 15 * 2**20  # bytes of a file that comes back
KEPT = ("config.json", "history.csv", "best.keras", "last.keras", "metrics.json")


def train(options):
    """Train, evaluate, and return what happened."""
    import keras

    import keras_taps as kt
    from keras_taps.experiments.run import Run

    deadline = time.time() + options.seconds
    recipe = kt.recipes.recipe(options.recipe)
    changes = {name: json.loads(value) for name, value in (s.split("=") for s in options.set)}
    if changes:
        recipe = recipe.changed(**changes)
    if (options.folder / "config.json").exists():
        run = Run.open(options.folder, data_dir=options.data)
    else:
        run = Run.create(
            options.folder, recipe, options.seed, limit=options.limit, data_dir=options.data
        )
    began, seconds = time.time(), []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.time()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.time() - self.began)
            shown = {name: round(float(value), 4) for name, value in (logs or {}).items()}
            print(f"{options.recipe} epoch {epoch + 1}: {seconds[-1]:.1f} s {shown}", flush=True)
            # The first epoch compiles; the next takes what the last took.
            if time.time() + seconds[-1] > deadline:
                self.model.stop_training = True

    run.train([Clock()])
    trained = time.time() - began
    metrics = run.evaluate()
    found = {
        "recipe": run.recipe.to_config(),
        "seed": run.seed,
        "epochs_done": len(run.history()),
        "complete": len(run.history()) >= run.recipe.epochs,
        "train_s": trained,
        "epoch_s": seconds,
        "evaluation_s": time.time() - began - trained,
        "history": run.history(),
        "metrics": metrics,
    }
    if options.keep:
        found["kept"] = pack(run, options.keep)
    return found


def pack(run, folder):
    """Keep a run in files of at most 15 MiB in `folder`; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    name = run.folder.name
    path = folder / f"{name}.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for kept in KEPT:
            if run.path(kept).exists():
                archive.write(run.path(kept), kept)
    if path.stat().st_size <= PART:
        return [path.name]
    path.unlink()
    flat = np.concatenate([w.ravel() for w in run.load_best().network.get_weights()])
    half = flat.astype("float16")
    count = -(-half.nbytes // PART)
    parts = [folder / f"{name}-{i}.npy" for i in range(count)]
    for part, values in zip(parts, np.array_split(half, count), strict=True):
        np.save(part, values)
    return [part.name for part in parts]


def unpack(network, parts):
    """Put the weights of `pack` into a network of the same recipe."""
    flat = np.concatenate([np.load(part) for part in parts]).astype("float32")
    weights, start = [], 0
    for weight in network.get_weights():
        weights.append(flat[start : start + weight.size].reshape(weight.shape))
        start += weight.size
    network.set_weights(weights)


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe")
    parser.add_argument("--folder", type=Path, required=True, help="run folder")
    parser.add_argument("--data", help="folder with the data set's .npz file")
    parser.add_argument("--seconds", type=float, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="images of each split")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=JSON")
    parser.add_argument("--keep", type=Path, help="folder for what comes back")
    parser.add_argument("--output", type=Path, required=True, help="JSON, one entry a run")
    options = parser.parse_args(arguments)
    found = train(options)
    content = read_json(options.output, {})
    write_json(options.output, {**content, options.folder.name: found})


if __name__ == "__main__":
    main()
