"""Searches of the split, of w_TAPS and of five methods, certified by the complete verifier.

    TFDS_DATA_DIR=... python benchmarks/tuning.py grid --backend tensorflow
    TFDS_DATA_DIR=... python benchmarks/tuning.py fronts --backend tensorflow
    TFDS_DATA_DIR=... python benchmarks/tuning.py workers --backend tensorflow
    python benchmarks/tuning.py all --quick

MNIST, CNN3 with two filters, eps 0.1, a short schedule on 4000 training images. All choices and
figures are of 1200 other training images, which are held out; the test images are for the best
model of each search.

grid     TAPS at every split and at the weights of Table 2 of the paper: the trends of Tables 2 and
         11. As in the authors' code, the gradient is `w : 1`, not of length 2.
fronts   IBP, SABR, TAPS, STAPS and MTL-IBP with the same number of trials each.
workers  One process against a chief and two workers: the same trials and figures?

Each search is a study that is resumed by the same command, in the folder given by --studies; the
records are written when it is complete.
"""

import argparse
import os
import time
from pathlib import Path

from provenance import RESULTS, provenance, read_json, threads, write_json

RECIPE = "mnist-0.1-cnn3-taps"
FRONTS = ("ibp", "sabr", "taps", "staps", "mtl-ibp")
COMPLETE = ("ibp", "attack", "crown-ibp", "crown", "alpha-crown", "bab")
SETTINGS = {
    "epochs": 6,
    "trials": 8,  # of each method
    "weights": [0.0, 1.0, 5.0, 10.0, 15.0, 20.0, float("inf")],
    "splits": [0, 1, 2],  # every legal one
    "images": 1000,  # certified
    "timeout": 10,  # seconds an image
    "stages": COMPLETE,
    "limit": 4000,  # training images
    # `validation` leaves 1200 images, on which each epoch of each trial is measured.
    "changes": {
        "width": 2,
        "batch_size": 32,
        "learning_rate": 0.002,
        "attack_steps": 4,
        "validation": 0.02,
    },
}
QUICK = {
    "epochs": 1,
    "trials": 2,
    "weights": [1.0, 5.0],
    "splits": [0, 1],
    "images": 8,
    "timeout": 1,
    "limit": 64,
    "changes": {"width": 1, "attack_steps": 1, "anneal_epochs": 0},
}
QUICK_RECIPE = "digits-0.1-taps"


def grid(create, settings):
    """A search by TAPS for each weight, because the length of its gradient goes with it.

    At split 0 there is no TAPS gradient to be weighted: once is enough.
    """
    studies, first = {}, settings["weights"][0]
    for weight in settings["weights"]:
        # At infinity the product has one gradient, and no length makes it `w : 1`.
        scale = (weight + 1) / 2 if weight < float("inf") else 1.0
        studies[f"grid-w{weight:g}"] = create(
            f"grid-w{weight:g}",
            changes={"w_taps": weight, "gradient_scale": scale},
            search={"classifier_relus": [s for s in settings["splits"] if s or weight == first]},
            kind="grid",
        )
    return studies


def fronts(create, settings):
    """The five methods, each searching what it has of its own, the training radius and L1."""
    own = ["classifier_relus", "w_taps", "tau_ratio", "alpha", "train_eps_factor", "l1"]
    return {"fronts": create("fronts", methods=FRONTS, search=own)}


def workers(create, settings):
    """The same search twice, of few images: what is compared does not depend on how many."""
    search = {"search": ["classifier_relus", "w_taps"], "stages": ("ibp", "crown-ibp")}
    search |= {"limit": min(1000, settings["limit"]), "certify_count": min(200, settings["images"])}
    return {name: create(name, **search) for name in ("one-process", "chief-and-two-workers")}


EXPERIMENTS = {"grid": grid, "fronts": fronts, "workers": workers}


def run(study, name, count):
    """Search until the trials are used up; the record of it."""
    from keras_taps.tuning import ParetoFront

    began = time.perf_counter()
    for search in study.searches:
        study.run(search, workers=count)
    seconds = time.perf_counter() - began
    best = {search: study.export(search) for search in study.searches}
    study.write()
    rows = ParetoFront(study.read()).trials
    front = {
        method: {
            "hypervolume": front.hypervolume(),
            "trials": [f"{row['search']}/{row['trial']}" for row in front.front],
        }
        for method, front in study.fronts().items()
    }
    return {
        "study": name,
        "backend": study.backend,
        "workers": count,
        "this_session_s": seconds,  # less than all of it if the study was resumed
        "fronts": front,
        "trials": rows,
        "best_on_test_images": {k: metrics(run) for k, run in best.items() if run},
        "config": study.config(),
        "threads": threads(),
        "provenance": provenance(),
    }


def metrics(run):
    """What the best model of a search reaches on test images."""
    found = read_json(run.path("metrics.json"))
    return {key: value for key, value in found.items() if key.endswith(("accuracy", "count"))}


def same_trials(records):
    """Whether two searches drew the same trials and came to the same figures."""
    one, three = (
        [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in record["trials"]]
        for record in records
    )
    figures = ("val_natural_accuracy", "val_taps_accuracy", "val_certified_accuracy")
    values = ("trial", "status", "classifier_relus", "w_taps")
    pairs = list(zip(one, three, strict=False))
    return {
        "same_values": len(one) == len(three)
        and all(a.get(k) == b.get(k) for a, b in pairs for k in values),
        "largest_difference": max(abs(a[k] - b[k]) for a, b in pairs for k in figures if k in a),
        "same_best_trial": len({max(rows, key=lambda r: r["score"] or 0)["trial"]
                                for rows in (one, three)}) == 1,
    }  # fmt: skip


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", choices=(*EXPERIMENTS, "all"))
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--studies", type=Path, default=Path("runs") / "tuning")
    parser.add_argument("--workers", type=int, default=0, help="processes of grid and fronts")
    parser.add_argument("--trials", type=int, help="of each method of fronts, and of workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="a smoke test on digits")
    parser.add_argument("--output", type=Path, help="folder; none by default with --quick")
    options = parser.parse_args(arguments)
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend  # Keras reads it when it is imported
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    import keras_taps as kt

    settings = {**SETTINGS, **(QUICK if options.quick else {})}
    trials = options.trials or settings["trials"]
    output = options.output or (None if options.quick else RESULTS)
    folder = options.studies / keras.backend.backend()
    base = kt.recipes.recipe(QUICK_RECIPE if options.quick else RECIPE, **settings["changes"])
    base = base.scaled(settings["epochs"])

    def create(name, changes=None, **more):
        if (folder / name / "study.json").exists():
            return kt.tuning.Study.open(folder / name)
        common = {
            "trials": trials,
            "stages": settings["stages"],
            "certify_count": settings["images"],
            "timeout": settings["timeout"],
            "seed": options.seed,
            "limit": settings["limit"],
        }
        recipe = base.changed(**(changes or {}))
        return kt.tuning.Study.create(folder / name, recipe, **{**common, **more})

    for experiment in EXPERIMENTS if options.experiment == "all" else [options.experiment]:
        path = output and output / f"tuning_{experiment}.json"
        records = []
        for name, study in EXPERIMENTS[experiment](create, settings).items():
            count = 2 if name == "chief-and-two-workers" else options.workers
            count = 0 if name == "one-process" else count
            records.append(run(study, name, count))
            found = {m: round(f["hypervolume"], 4) for m, f in records[-1]["fronts"].items()}
            print(name, "hypervolumes", found, flush=True)
            content = {"records": records}
            if experiment == "workers" and len(records) == 2:
                content["comparison"] = same_trials(records)
                print(content["comparison"], flush=True)
            if path:
                write_json(path, content)


if __name__ == "__main__":
    main()
