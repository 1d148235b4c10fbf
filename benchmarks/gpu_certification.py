"""Inputs a second of each stage of certification on a device, float32 search alone.

    KERAS_BACKEND=jax python benchmarks/gpu_certification.py runs/ibp --data DIR \
        --output certification.json

The float64 checker computes on the CPU and is left out here (`certification.py` times it): these
are the stages' own figures. Each stage runs twice on its images, since the first run compiles;
how many images it takes is chosen by the seconds of a first batch. Results are written after each
stage.
"""

import argparse
import time
from pathlib import Path

from certification import timed
from gpu_training import unpack
from provenance import write_json

STAGES = ("ibp", "attack", "crown-ibp", "crown", "alpha-crown")
MOST = 4096  # images of a stage


def throughput(graph, stage, x, y, eps, batch_size, seconds):
    """Figures of one stage: images, seconds, images a second, and those of the first batch."""
    from keras_taps.verification import Verifier

    verifier = Verifier(graph, batch_size=batch_size, check=False)

    def run(count):
        return timed(verifier, stage, x[:count], y, eps)

    _, first = run(min(batch_size, len(x)))
    tasks, again = run(min(batch_size, len(x)))
    batches = int(seconds / max(again, 1e-9))
    if batches > 1:
        tasks, again = run(min(batches * batch_size, len(x), MOST))
    return {
        "batch_size": batch_size,
        "inputs": len(tasks),
        "seconds": again,
        "inputs_per_second": len(tasks) / again,
        "first_batch_s": first,
        "decided": sum(task.verdict is not None for task in tasks),
    }


def search(graph, x, y, eps, seconds, batch_size):
    """Domains a second of branch and bound on images that nothing before decides."""
    from keras_taps.verification import Task, Verifier

    verifier = Verifier(graph, batch_size=batch_size, check=False)
    tasks = [Task.around(x[i], int(y[i]), eps, graph.outputs, i) for i in range(len(x))]
    for stage in ("ibp", "attack", "crown-ibp"):
        verifier.run(stage, tasks)
        tasks = [task for task in tasks if task.verdict is None]
    tasks = tasks[:8]
    if not tasks:
        return {"inputs": 0}
    verifier.run("bab", tasks[:1], budget=2)  # compiles
    found = verifier.branch_and_bound()
    before, began = found.nodes, time.perf_counter()
    verifier.run("bab", tasks, budget=seconds / len(tasks))
    spent = time.perf_counter() - began
    return {
        "inputs": len(tasks),
        "decided": sum(task.verdict is not None for task in tasks),
        "domains": found.nodes - before,
        "seconds": spent,
        "domains_per_second": (found.nodes - before) / spent,
    }


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="run folder, .keras file, or recipe of the packed weights")
    parser.add_argument("--parts", type=Path, nargs="*", help="weights that gpu_training packed")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data", help="folder with the data set's .npz file")
    parser.add_argument("--eps", type=float, required=True)
    parser.add_argument("--stages", nargs="+", default=[*STAGES, "bab"])
    parser.add_argument("--count", type=int, default=MOST, help="images at most")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5, help="for each stage, about")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(arguments)

    import keras

    import keras_taps as kt
    from keras_taps.experiments.build import build_network
    from keras_taps.networks.load import interval_network
    from keras_taps.verification import read_network

    if options.parts:
        network = build_network(kt.recipes.recipe(options.model))
        unpack(network, options.parts)
    else:
        network = interval_network(options.model)
    graph = read_network(network)
    x, y = kt.datasets.load(options.dataset, options.data).test
    x, y = x[: options.count], y[: options.count]
    found = {
        "backend": keras.backend.backend(),
        "model": Path(options.model).name,
        "eps": options.eps,
        "stages": {},
        "failed": {},
    }
    for stage in options.stages:
        try:
            if stage == "bab":
                how = options.seconds, options.batch_size
                figures = search(graph, x[:256], y[:256], options.eps, *how)
            else:
                how = options.batch_size, options.seconds
                figures = throughput(graph, stage, x, y, options.eps, *how)
            found["stages"][stage] = figures
        except Exception as error:  # out of memory, for instance: the other stages can still run
            found["failed"][stage] = str(error).strip().splitlines()[0][:300]
        print(stage, found["stages"].get(stage, found["failed"].get(stage)), flush=True)
        write_json(options.output, found)


if __name__ == "__main__":
    main()
