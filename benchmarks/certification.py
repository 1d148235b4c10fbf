"""A whole test set through the cascade, and what each stage costs.

    TFDS_DATA_DIR=... python benchmarks/certification.py cascade --model runs/ibp/best.keras
    TFDS_DATA_DIR=... python benchmarks/certification.py throughput --model ... --backend jax
    TFDS_DATA_DIR=... python benchmarks/certification.py exact --model runs/tiny/best.keras
    TFDS_DATA_DIR=... python benchmarks/certification.py bounds --model ... --repeat 4 --count 10

`cascade` certifies the MNIST test set and keeps the accuracies, decisions and seconds of each
stage. `throughput` times each stage alone on the same images, beside a plain matrix product, and
counts the multiplications a stage cannot do without. `exact` decides 100 images by mixed integer
programming. `bounds` measures CROWN of a convolutional network, by the float64 checker and by the
engine, in seconds of CPU an image; `--repeat n` makes the network n times as wide without changing
what it computes. Train the models with `keras-taps train`, for instance
`keras-taps train mnist-0.1-cnn3-ibp --out runs/ibp`; names and seeds are in the records.
"""

import argparse
import json
import os
import resource
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from provenance import RESULTS, add_record, provenance, training_of


def cascade(options, x, y):
    """Certify the test set; a report file lets an interrupted run go on."""
    import keras_taps as kt

    def show(report, total):
        shares = report.accuracies()
        print(f"{shares['count']}/{total} certified {shares['certified']:.4f}", flush=True)

    report = kt.certify(
        options.model, x, y, options.eps, out=options.report, timeout=options.timeout, progress=show
    )
    seconds = sum(record["seconds"] for record in report.records)
    return {
        "accuracies": report.accuracies(),
        "stages": report.stages(),
        "timeout": options.timeout,
        "unchecked": report.unchecked,
        "seconds_per_input": seconds / len(report.records),
    }


def throughput(options, x, y):
    """Inputs a second of each stage alone, and the share of its time that its products need."""
    from keras_taps.verification import Verifier
    from keras_taps.verification.cascade.given import load_network

    graph = load_network(options.model)[1]
    found, peak = {}, gigaflops()
    count = options.count or 256
    for stage in ("ibp", "crown-ibp", "crown", "alpha-crown", "attack"):
        verifier = Verifier(graph, batch_size=64, check=False)
        for _ in range(2):  # the first round compiles
            tasks, seconds = timed(verifier, stage, x[:count], y, options.eps)
        flop = multiplications(stage, graph, tasks, verifier) * 2
        found[stage] = {
            "inputs_per_second": count / seconds,
            "gflop_per_input": flop / count / 1e9,
            "share_of_matrix_work": flop / (peak * 1e9) / seconds,
        }
        print(stage, found[stage], flush=True)
    return {"count": count, "peak_gflops": peak, "stages": found}


def timed(verifier, stage, x, y, eps):
    """Fresh tasks of images after a stage, and the seconds that it took."""
    from keras_taps.verification import Task

    outputs = verifier.graph.outputs
    tasks = [Task.around(x[i], int(y[i]), eps, outputs, i) for i in range(len(x))]
    if stage == "alpha-crown":  # which has its boxes from the stage before
        verifier.run("crown", tasks)
        for task in tasks:
            task.verdict, task.bounds = None, np.full(len(task.query.offset), np.inf)
    began = time.perf_counter()
    verifier.run(stage, tasks)
    return tasks, time.perf_counter() - began


def multiplications(stage, graph, tasks, verifier):
    """Multiplications of the affine maps that a stage needs for all tasks."""
    from keras_taps.verification.graph.nodes import Conv, Dense, Relu

    forms = len(tasks[0].query.offset)
    macs, before = [], []  # of each affine node, and of those before each ReLU
    for node in graph.nodes:
        if isinstance(node, Dense):
            macs.append(node.kernel.size)
        elif isinstance(node, Conv):
            macs.append(node.kernel.size * int(np.prod(node.out_shape[:2])))
        elif isinstance(node, Relu):
            before.append(sum(macs))
    whole = sum(macs)
    passes = {
        "ibp": 2,
        "crown-ibp": 2 + forms,
        "crown": 2 + forms,
        "alpha-crown": 2 + 2 * forms * (verifier.options.iterations + 1),
        "attack": forms * 3 * 20,
    }[stage]
    total = passes * whole * len(tasks)
    if stage == "crown":
        for task in tasks:
            for (low, high), cost in zip(task.boxes[1:], before[1:], strict=True):
                # Counted on the refined boxes: a lower limit of what was asked.
                total += 2 * int(np.sum((low < 0) & (high > 0))) * cost
    return total


def gigaflops():
    """Speed of one large float32 matrix product of the backend in this process."""
    from keras import ops

    a = ops.convert_to_tensor(np.random.default_rng(0).random((2048, 2048), "float32"))
    ops.convert_to_numpy(ops.matmul(a, a))
    times = []
    for _ in range(5):
        began = time.perf_counter()
        ops.convert_to_numpy(ops.matmul(a, a))
        times.append(time.perf_counter() - began)
    return 2 * 2048**3 / min(times) / 1e9


def exact(options, x, y):
    """Decide images by mixed integer programming alone, and again by branch and bound alone.

    The stage asks the checker first, for its boxes; what that proves is not left to the solver.
    """
    import keras_taps as kt

    count = options.count or 100
    report, other = (
        kt.certify(
            options.model, x[:count], y[:count], options.eps, stages=(stage,), batch_size=1,
            timeout=60, out=options.report if stage == "milp" else None,
            progress=lambda report, total: print(len(report.records), total, flush=True),
        )
        for stage in ("milp", "bab")
    )  # fmt: skip
    branched = [r["stage_seconds"]["bab"] for r in other.records if "bab" in r["stage_seconds"]]
    seconds = [r["stage_seconds"]["milp"] for r in report.records if "milp" in r["stage_seconds"]]
    return {
        "accuracies": report.accuracies(),
        "stages": report.stages(),
        "solved_by_milp": len(seconds),
        "same_verdict_by_branch_and_bound": int((report.verdicts == other.verdicts).sum()),
        "median_seconds_of_branch_and_bound": float(np.median(branched)) if branched else None,
        "max_seconds_of_branch_and_bound": float(np.max(branched)) if branched else None,
        "left_to_the_solver": report.solver_certified + report.stages()["milp"]["falsified"],
        "median_seconds": float(np.median(seconds)) if seconds else None,
        "max_seconds": float(np.max(seconds)) if seconds else None,
    }


def _name(options):
    """The run folder's name, or the file's where it lies among others; and how much wider."""
    folder = options.model.parent.name
    name = options.model.stem if folder == "models" else folder
    return name if options.repeat == 1 else f"{name}, {options.repeat} times as wide"


def bounds(options, x, y):
    """CROWN on every unstable neuron of the first images, whatever cheaper bounds prove."""
    from keras_taps.verification import Checker, Task
    from keras_taps.verification.bridges.to_keras import build_network
    from keras_taps.verification.cascade.given import load_network
    from keras_taps.verification.search.boxes import covering
    from keras_taps.verification.search.engine import BoundEngine

    graph = wider(load_network(options.model)[1], options.repeat)
    count = options.count or 10
    tasks = [Task.around(x[i], int(y[i]), options.eps, graph.outputs, i) for i in range(count)]
    checker, seconds, largest, unstable = Checker(graph), [], [], []
    for task in tasks:
        began = time.process_time()
        found, boxes = checker.bounds_and_boxes(*task.query.asked)
        seconds.append(time.process_time() - began)
        largest.append(float(found.max()))
        unstable.append([int(np.sum((low < 0) & (high > 0))) for low, high in boxes])
        print(task.query.index, seconds[-1], largest[-1], unstable[-1], flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    engine = BoundEngine(build_network(graph), batch_size=count)
    box = covering(*(np.stack([getattr(t, side) for t in tasks]) for side in ("lower", "upper")))
    for _ in range(2):  # the first round compiles
        began = time.process_time()
        engine.neuron_boxes(*box)
        engine_seconds = (time.process_time() - began) / count
    return {
        "repeat": options.repeat,
        "count": count,
        "checker_cpu_seconds": {"mean": float(np.mean(seconds)), "max": max(seconds)},
        "engine_cpu_seconds": engine_seconds,
        "peak_gib_of_checker": peak,
        "proved": sum(bound < 0 for bound in largest),
        "largest_bounds": largest,
        "unstable_neurons": np.mean(unstable, 0).tolist(),
    }


def wider(graph, times):
    """The same function by a network whose convolutions have each channel several times."""
    from keras_taps.verification.graph.graph import Graph
    from keras_taps.verification.graph.nodes import Conv, Dense, Relu, Reshape

    nodes, repeated, channels = [], 1, 0
    for node in graph.nodes:
        if isinstance(node, Conv):
            kernel = np.repeat(np.repeat(node.kernel, repeated, 2) / repeated, times, 3)
            shape = (*node.in_shape[:2], node.in_shape[2] * repeated)
            node = replace(
                node,
                kernel=kernel,
                bias=np.repeat(node.bias, times),
                in_shape=shape,
                magnitude=None,
            )
            repeated, channels = times, node.out_shape[-1]
        elif isinstance(node, Relu) and repeated > 1:
            node = replace(node, in_shape=nodes[-1].out_shape)
        elif isinstance(node, Reshape) and repeated > 1:
            shape = nodes[-1].out_shape
            node = Reshape(shape, (int(np.prod(shape)),))
        elif isinstance(node, Dense) and repeated > 1:
            kernel = node.kernel.reshape(-1, channels // repeated, node.kernel.shape[1])
            kernel = np.repeat(kernel, repeated, 1) / repeated
            node = replace(node, kernel=kernel.reshape(-1, node.kernel.shape[1]))
            repeated = 1
        nodes.append(node)
    return Graph(tuple(nodes))


def main(arguments=None):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = {"cascade": cascade, "throughput": throughput, "exact": exact, "bounds": bounds}
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--name", help="how the tables call the model")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--eps", type=float, default=0.1)
    parser.add_argument("--count", type=int, help="number of test images")
    parser.add_argument("--repeat", type=int, default=1, help="how many times as wide, in 'bounds'")
    parser.add_argument("--timeout", type=float, default=30, help="seconds an input")
    parser.add_argument("--report", type=Path, help="report file, with which a run resumes")
    parser.add_argument("--backend", choices=("tensorflow", "jax", "torch"))
    parser.add_argument("--output", type=Path, default=RESULTS / "certification.json")
    options = parser.parse_args(arguments)
    if options.backend:
        os.environ["KERAS_BACKEND"] = options.backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    import keras_taps as kt

    x, y = kt.datasets.load(options.dataset).test
    if options.kind == "cascade":
        x, y = x[: options.count], y[: options.count]
    record = {
        "kind": options.kind,
        "name": options.name or _name(options),
        "backend": keras.backend.backend(),
        "dataset": options.dataset,
        "eps": options.eps,
        **kinds[options.kind](options, x, y),
        "training": training_of(options.model),
        "provenance": provenance(),
    }
    add_record(options.output, record, ("kind", "name", "backend", "dataset", "eps"))
    print(json.dumps({k: v for k, v in record.items() if k not in ("training", "provenance")}))


if __name__ == "__main__":
    main()
