"""What the parts of branch and bound are worth: each switched alone, on the same open inputs.

    TFDS_DATA_DIR=... python benchmarks/branch_and_bound.py --model runs/taps/best.keras
    TFDS_DATA_DIR=... python benchmarks/branch_and_bound.py --model ... --backend jax --only default

The test images that the stages before leave open are handed to branch and bound in several
settings, one after the other in the same process: each way of branching, one input at a
time. A first round of every setting compiles and is not counted.
"""

import argparse
import copy
import os
import time
from pathlib import Path

from provenance import RESULTS, add_record, provenance, training_of

SETTINGS = {
    "default": {},
    "babsr": {"branching": "babsr"},
    "gap": {"branching": "gap"},
    "one input at a time": {},
}
BEFORE = ("ibp", "attack", "crown-ibp", "crown", "alpha-crown", "strong-attack")


def open_tasks(graph, x, y, eps):
    """Tasks that nothing before branch and bound decides."""
    from keras_taps.verification import Task, Verifier

    predicted = graph(x).argmax(-1)
    tasks = [
        Task.around(x[i], int(y[i]), eps, graph.outputs, i)
        for i in range(len(x))
        if predicted[i] == y[i]
    ]
    verifier = Verifier(graph, batch_size=64)
    for stage in BEFORE:
        verifier.run(stage, tasks)
        tasks = [task for task in tasks if task.verdict is None]
    for task in tasks:
        task.seconds = {}
    return tasks


def measure(graph, tasks, options, alone, budget):
    """Solve the tasks; verdicts, domains, leaves and seconds."""
    from keras_taps.verification import Verifier

    verifier = Verifier(graph, batch_size=64, **options)
    verifier.run("bab", [copy.deepcopy(task) for task in tasks[:2]], budget=2)  # compiles
    search = verifier.branch_and_bound()
    before, compiled = search.nodes, search.engine.compile_s
    tasks = [copy.deepcopy(task) for task in tasks]
    began = time.perf_counter()
    for batch in [[task] for task in tasks] if alone else [tasks]:
        verifier.run("bab", batch, budget=budget)
    seconds = time.perf_counter() - began - (search.engine.compile_s - compiled)
    verdicts = [task.verdict for task in tasks]
    nodes = search.nodes - before
    return {
        "certified": verdicts.count("certified"),
        "falsified": verdicts.count("falsified"),
        "open": verdicts.count(None),
        "domains": nodes,
        "leaves": sum(len(tree.leaves) for task in tasks for tree in task.trees or ()),
        "seconds": seconds,
        "domains_per_second": nodes / seconds,
    }


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--name", help="how the tables call the model")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--count", type=int, default=1000, help="number of test images")
    parser.add_argument("--budget", type=float, default=30, help="seconds an input")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--output", type=Path, default=RESULTS / "branch_and_bound.json")
    options = parser.parse_args(arguments)
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    import keras_taps as kt
    from keras_taps.verification.cascade.given import load_network

    graph = load_network(options.model)[1]
    x, y = (part[: options.count] for part in kt.datasets.load(options.dataset).test)
    tasks = open_tasks(graph, x, y, options.eps)
    for name in options.only:
        alone = name == "one input at a time"
        record = {
            "name": options.name or options.model.parent.name,
            "setting": name,
            "backend": keras.backend.backend(),
            "eps": options.eps,
            "images": len(x),
            "inputs": len(tasks),
            "budget": options.budget,
            **measure(graph, tasks, SETTINGS[name], alone, options.budget),
            "training": training_of(options.model),
            "provenance": provenance(),
        }
        print({k: v for k, v in record.items() if k not in ("training", "provenance")}, flush=True)
        add_record(options.output, record, ("name", "setting", "backend", "eps"))


if __name__ == "__main__":
    main()
