"""Every method on MNIST or Fashion-MNIST with a short budget: accuracies and seconds a step.

    TFDS_DATA_DIR=... python benchmarks/short_training.py --setting mnist --backend tensorflow
    TFDS_DATA_DIR=... python benchmarks/short_training.py --setting mnist --timing
    TFDS_DATA_DIR=... python benchmarks/short_training.py --setting mnist --certify
    python benchmarks/short_training.py --quick

eps 0.1 in training and test, batch 256, 400 steps of which 100 anneal the radius; the weights
after the last step are measured on the 10 000 test images. MNIST trains CNN3, Fashion-MNIST CNN5,
both with 16 filters. A record is added to the results as soon as it is complete. The same command
again continues with what is missing. The networks are kept in a folder, where `--certify` finds
them, and those methods that learn from a teacher.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
from provenance import RESULTS, provenance, read_json, threads, write_json
from short_settings import METHODS, QUICK, REFERENCE, SETTING, SETTINGS


def network_of(seed, settings, info):
    """An untrained network."""
    import keras

    import keras_taps as kt

    keras.utils.set_random_seed(seed)
    return getattr(kt.networks, settings["network"])(
        info.input_shape,
        info.num_classes,
        width=settings["width"],
        mean=info.mean,
        std=info.std,
    )


def build(method, seed, settings, network, models, changes=None):
    """The compiled training model of one run, or of one stage of it, which `changes`."""
    import keras

    import keras_taps as kt

    kind, own = METHODS[method]
    options = {name: settings[name] for name in ("eps", "warmup_weight", "classifier_relus")}
    options |= {**own, **(changes or {})}
    options.pop("stages", None)
    shape = options.pop("anneal_shape", "smooth")
    if "teacher" in options:
        options["teacher"] = models / f"{options['teacher']}-{seed}.keras"
    options["l1"] = settings["l1"] / len(network.affine_layers)
    make, details, rates = keras.optimizers.Adam, {"epsilon": 1e-8}, settings["learning_rates"]
    rate = options.pop("learning_rate", None)
    if rate is not None:  # of a stage
        make, details = keras.optimizers.SGD, {"momentum": 0.9}
        rates = [rate * each / rates[0] for each in rates]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(settings["decay_steps"], rates)
    optimizer = make(schedule, global_clipnorm=settings["global_clipnorm"], **details)
    model = kt.training.METHODS[kind](network, seed=seed, **options)
    model.compile(optimizer)
    model.set_annealing(0, settings["annealing_steps"], shape)
    return model


def stages_of(method, settings):
    """What each stage of a method changes, with its share of the steps."""
    from keras_taps.experiments.recipes import recipe

    named = METHODS[method][1].get("stages")
    stages = [None] if named is None else recipe(named).stages
    share = {name: settings[name] // len(stages) for name in ("steps", "annealing_steps")}
    share["decay_steps"] = [step // len(stages) for step in settings["decay_steps"]]
    return [({**settings, **share}, changes) for changes in stages]


def train(model, images, labels, seed, settings):
    """Train for the given number of steps; return the seconds of each and the last logs."""
    import keras

    import keras_taps as kt

    class Clock(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.times = []

        def on_train_begin(self, logs=None):
            self.times.append(time.perf_counter())

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits until the step is done: JAX returns before
            self.logs = logs
            self.times.append(time.perf_counter())

    size, steps = settings["batch_size"], settings["steps"]
    whole = len(images) // size * size
    epochs = range(-(-steps * size // whole))
    order = [np.random.default_rng((seed, e)).permutation(len(images))[:whole] for e in epochs]
    order = np.concatenate(order)[: steps * size]
    clock = Clock()
    batches = kt.datasets.Batches(images[order], labels[order], size, shuffle=False)
    model.fit(batches, epochs=1, callbacks=[clock], verbose=0)
    return np.diff(clock.times), clock.logs


def run(method, seed, settings, data, models):
    """Train and measure; return the record."""
    import keras

    import keras_taps as kt

    start = time.perf_counter()
    network = network_of(seed, settings, data.info)
    for number, (share, changes) in enumerate(stages_of(method, settings)):
        model = build(method, seed, share, network, models, changes)
        _, logs = train(model, *data.train, seed + 1000 * number, share)
    models.mkdir(parents=True, exist_ok=True)
    network.save(models / f"{method}-{seed}.keras")
    x, y = data.test
    # Every method is measured by the same figures, whatever its own metrics are.
    judge = kt.TAPSModel(network, settings["eps"], classifier_relus=settings["classifier_relus"])
    judge.compile()
    report = judge.evaluate(x, y, batch_size=250, verbose=0, return_dict=True)
    robust = kt.adversarial_accuracy(network, x, y, settings["eps"], steps=settings["pgd_steps"])
    return {
        "backend": keras.backend.backend(),
        "method": method,
        "seed": seed,
        "options": METHODS[method][1],
        "natural": 100 * float(report["natural_accuracy"]),
        "pgd": 100 * robust,
        "ibp": 100 * float(report["ibp_certified_accuracy"]),
        "taps": 100 * float(report["taps_accuracy"]),
        # Mean over the steps after annealing, where not every class is attacked.
        "taps_loss_gap": float(logs["taps_loss_gap"]) if "taps_loss_gap" in logs else None,
        "total_s": time.perf_counter() - start,
        "settings": settings,
        "threads": threads(),
        "provenance": provenance(),
    }


def prove(network, test, settings):
    """What the verifier proves of a network's file on as many blocks as the limit allows."""
    import keras_taps as kt

    certifier = kt.Certifier(network)
    eps, timeout = settings["eps"], settings["certify_timeout"]
    x, y = (part[: settings["certified_images"]] for part in test)
    verdicts, start = [], time.perf_counter()
    while len(verdicts) < len(x) and time.perf_counter() - start < settings["certify_limit"]:
        block = slice(len(verdicts), len(verdicts) + 50)
        report = certifier.certify(x[block], y[block], eps, timeout=timeout)
        verdicts += [record["verdict"] for record in report.records]
    return {
        "images": len(verdicts),
        **{name: 100 * verdicts.count(name) / len(verdicts) for name in ("certified", "unknown")},
        "seconds": time.perf_counter() - start,
        "threads": threads(),
        "provenance": provenance(),
    }


def certify(method, seed, settings, data, models):
    """The record of what the verifier proves of a kept network."""
    import keras

    found = prove(models / f"{method}-{seed}.keras", data.test, settings)
    return {"backend": keras.backend.backend(), "method": method, "seed": seed, **found}


def clock(method, settings, data, models):
    """Seconds a step alone, on a few steps; take them when the machine is quiet.

    Of a method in stages, the mean over its stages, which share the steps.
    """
    import keras

    annealing = settings["timing_steps"]
    short = {**settings, "steps": 2 * annealing, "annealing_steps": annealing}
    network = network_of(0, settings, data.info)
    taken = []
    for _, changes in stages_of(method, settings):
        model = build(method, 0, short, network, models, changes)
        taken.append(train(model, *data.train, 0, short)[0])
    seconds = np.mean(taken, axis=0)
    return {
        "backend": keras.backend.backend(),
        "method": method,
        "seed": 0,
        "first_step_s": float(seconds[0]),
        # The first step of a phase may still compile or allocate.
        "warmup_step_s": float(np.median(seconds[1:annealing])),
        "main_step_s": float(np.median(seconds[annealing + 1 :])),
        "threads": threads(),
        "provenance": provenance(),
    }


def key(record):
    """What makes a record the same measurement as another."""
    return record["backend"], record["method"], record["seed"]


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--setting", choices=list(SETTING), default="mnist")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--timing", action="store_true", help="only take seconds a step")
    action.add_argument("--certify", action="store_true", help="only certify the kept networks")
    parser.add_argument("--quick", action="store_true", help="a smoke test: 4 steps on digits")
    parser.add_argument("--output", type=Path, help="JSON file; none by default with --quick")
    parser.add_argument("--models", type=Path, help="folder of networks; by default in build")
    options = parser.parse_args(arguments)
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend  # Keras reads it when it is imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # first steps compile
    import keras

    import keras_taps as kt

    settings = {**SETTINGS, **SETTING[options.setting], **(QUICK if options.quick else {})}
    output = options.output
    if output is None and not options.quick:
        output = RESULTS / f"short_training_{options.setting}.json"
    name = f"short_training_{'quick' if options.quick else options.setting}"
    models = options.models or RESULTS.parent.parent / "build" / name / keras.backend.backend()
    seeds = options.seeds or ([0] if options.quick or options.timing else [0, 1, 2])
    kind = "timings" if options.timing else "certified" if options.certify else "records"
    data = None
    # Seeds outside, so that a run that is cut short still has every method.
    for seed in seeds:
        for method in options.methods:
            empty = {"records": [], "timings": [], "certified": []}
            content = {**empty, **((output and read_json(output)) or {})}
            wanted = keras.backend.backend(), method, seed
            if not options.timing and wanted in map(key, content[kind]):
                print(*wanted, "is there already", flush=True)
                continue
            data = data or kt.datasets.load(settings["dataset"], validation=0)
            if options.timing:
                record = clock(method, settings, data, models)
            elif options.certify:
                record = certify(method, seed, settings, data, models)
            else:
                record = run(method, seed, settings, data, models)
            print(*wanted, *(f"{k} {v:.3f}" for k, v in record.items() if isinstance(v, float)))
            if output:
                others = [r for r in content[kind] if key(r) != wanted]
                content[kind] = sorted([*others, record], key=key)
                reference = REFERENCE if options.setting == "mnist" else []
                write_json(output, {**content, "reference": reference})


if __name__ == "__main__":
    main()
