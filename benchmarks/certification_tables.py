"""Sections of docs/benchmarks.md about certification."""

from collections import Counter
from pathlib import Path
from statistics import median

from tables_format import BACKENDS, NOT_MEASURED, machine, percent, table

EXACT = (
    "The MILP stage alone, one image at a time. It takes its boxes from the float64 checker; what "
    "that proves on the way is not left to the solver."
)


_ROWS = 112  # of both lists of the competition's properties


def competition(records):
    """Section of `competition.json`."""
    if not records:
        return NOT_MEASURED
    rows = []
    for source, name in sorted({(r["list"], r["benchmark"]) for r in records}):
        mine = [r for r in records if (r["list"], r["benchmark"]) == (source, name)]
        solved = [r for r in mine if r["verdict"] == r["expected"]]
        stages = Counter(r["stage"] for r in solved)
        left = Counter(r["verdict"] for r in mine if r not in solved)
        rows.append(
            [
                f"{name} ({source.removesuffix('.csv')})",
                str(len(mine)),
                str(len(solved)),
                str(sum(bool(r["checked"]) for r in solved)),
                f"{median(r['cpu_s'] for r in solved):.1f}" if solved else "",
                f"{max(r['cpu_s'] for r in solved):.1f}" if solved else "",
                f"{median(r['best_seconds'] for r in solved):.1f}" if solved else "",
                ", ".join(f"{stage} {count}" for stage, count in sorted(stages.items())),
                ", ".join(f"{verdict} {count}" for verdict, count in sorted(left.items())),
            ]
        )
    head = ["Set", "Rows", "Solved", "Confirmed", "Median CPU s", "Largest CPU s"]
    head += ["Best tool, median s", "Decided by", "Not solved"]
    solved = sum(r["verdict"] == r["expected"] for r in records)
    wrong = [
        r for r in records if r["verdict"] in ("sat", "unsat") and r["verdict"] != r["expected"]
    ]
    limit = max(r["timeout"] for r in records)
    lists = ", ".join(
        f"{sum(r['verdict'] == r['expected'] for r in mine)} of {len(mine)} of {name}"
        for name in sorted({r["list"] for r in records})
        for mine in [[r for r in records if r["list"] == name]]
    )
    text = (
        f"{len(records)} of the {_ROWS} rows, one thread and {limit:g} s of CPU each: "
        f"{solved} solved ({lists}), {len(wrong)} wrong verdicts. CPU seconds are those of the "
        "whole process on the machine below, imports included, of the rows that were solved; those "
        "of the best tool are wall time on the machines of the competition, GPUs among them."
    )
    if len(records) < _ROWS:
        text += (
            " The other rows have not run. Sets that looked easy ran first, so of those that are "
            "missing the share that was solved says nothing."
        )
    parts = [text, table(head, rows), _open(records), machine([r["provenance"] for r in records])]
    return "\n\n".join(part for part in parts if part)


def _open(records):
    """A line for each row that ran out of time: what bounds left to branch and bound."""
    lines = []
    for record in records:
        if record["verdict"] == "timeout":
            bounds = [each for each in record["ended"] if "bound" in each["why"]]
            last = f"{bounds[-1]['stage']} left {bounds[-1]['why']}" if bounds else "no bound"
            lines.append(f"- Open: {record['benchmark']}, `{Path(record['vnnlib']).stem}`: {last}.")
    return "\n".join(lines)


def tried(records, usual):
    """Section of `competition_tried.json` beside the usual records of the same properties."""
    if not records:
        return NOT_MEASURED
    known = {(r["onnx"], r["vnnlib"]) for r in records}
    usual = [r for r in usual or [] if (r["onnx"], r["vnnlib"]) in known]
    records = [{**r, "what": "default"} for r in usual] + records
    settings = list(dict.fromkeys(r["what"] for r in records))
    found = {}
    for r in records:
        network = f"{r['benchmark']} {Path(r['onnx']).stem.removeprefix('mnist-net_')}"
        name = Path(r["vnnlib"]).stem.removeprefix("cifar10_spec_idx_")
        solved = r["verdict"] in ("sat", "unsat", "closed")
        cell = f"{r['cpu_s']:.1f}" if solved else "open"
        found.setdefault((network, name), {})[r["what"]] = cell
    rows = [
        [network, f"`{name}`", *(cells.get(setting, "-") for setting in settings)]
        for (network, name), cells in found.items()
    ]
    head = ["Network", "Property", *(f"`{s}`" if s.startswith("-") else s for s in settings)]
    return "\n\n".join([table(head, rows), machine([r["provenance"] for r in records])])


def then_and_now(records):
    """Section of `certification_then.json`: one network by an older version and by this one."""
    if not records:
        return NOT_MEASURED
    stages = list(records[0]["stages"])
    rows = [
        [
            *(r["name"], BACKENDS[r["backend"]], r["provenance"]["commit"][:10], str(r["images"])),
            *(percent(r[k], 2) for k in ("certified", "unknown", "certified_as_deployed")),
            f"{r['cpu_s']:.1f}",
            *(f"{r['stages'][stage]:.1f}" for stage in stages),
        ]
        for r in records
    ]
    head = ["Model", "Backend", "Commit", "Images", "Certified %", "Unknown %", "As deployed %"]
    found = table([*head, "CPU s", *(f"{stage} s" for stage in stages)], rows)
    return "\n\n".join([found, machine([r["provenance"] for r in records])])


def certification(records):
    """Sections of `certification.json`."""
    parts = [
        _cascades([r for r in records or [] if r["kind"] == "cascade"]),
        _throughput([r for r in records or [] if r["kind"] == "throughput"]),
        _exact([r for r in records or [] if r["kind"] == "exact"]),
        _bounds([r for r in records or [] if r["kind"] == "bounds"]),
    ]
    parts = [part for part in parts if part]
    if not parts:
        return NOT_MEASURED
    return "\n\n".join([*parts, machine([r["provenance"] for r in records])])


def _cascades(records):
    if not records:
        return None
    stages = list(dict.fromkeys(stage for r in records for stage in r["stages"]))[1:]
    rows = [
        [
            r["name"],
            BACKENDS[r["backend"]],
            f"{r['eps']:g}",
            str(r["accuracies"]["count"]),
            f"{r['timeout']:g}",
            *(f"{100 * r['accuracies'][k]:.2f}" for k in ("natural", "adversarial")),
            *(f"{100 * _certified_up_to(r, stage):.2f}" for stage in ("ibp", "crown-ibp", None)),
            f"{100 * r['accuracies']['unknown']:.2f}",
            f"{1000 * r['seconds_per_input']:.1f}",
        ]
        for r in records
    ]
    head = [
        "Model", "Backend", "eps", "Inputs", "Limit s", "Natural %", "Adversarial %", "IBP %",
        "CROWN-IBP %", "Complete %", "Unknown %", "ms an input",
    ]  # fmt: skip
    decided = []
    for r in records:
        for kind in ("certified", "falsified"):
            counts = [str(r["stages"].get(stage, {}).get(kind, 0)) for stage in stages]
            decided.append([r["name"], f"{kind} by", *counts])
        seconds = [f"{r['stages'].get(stage, {}).get('seconds', 0):.0f}" for stage in stages]
        decided.append([r["name"], "seconds", *seconds])
    return "\n\n".join([table(head, rows), table(["Model", "", *stages], decided)])


def _certified_up_to(record, last):
    """Share of the inputs that the stages up to one certify, or all of them."""
    found = 0
    for stage, row in record["stages"].items():
        found += row["certified"]
        if stage == last:
            break
    return found / record["accuracies"]["count"]


def branch_and_bound(records):
    """Section of `branch_and_bound.json`."""
    if not records:
        return NOT_MEASURED
    rows = [
        [
            r["name"],
            BACKENDS[r["backend"]],
            r["setting"],
            str(r["inputs"]),
            *(str(r[name]) for name in ("certified", "falsified", "open", "domains", "leaves")),
            f"{r['seconds']:.0f}",
            f"{r['domains_per_second']:.0f}",
        ]
        for r in records
    ]
    head = [
        "Model", "Backend", "Setting", "Inputs", "Certified", "Falsified", "Open", "Domains",
        "Leaves", "Seconds", "Domains / s",
    ]  # fmt: skip
    text = (
        f"The inputs that all stages before leave open among the first {records[0]['images']} test "
        f"images, {records[0]['budget']:g} s each, every leaf checked. The default branches by "
        "kFSB. Multi-neuron constraints, found for up to three neurons of a layer at a time as in "
        "PRIMA (Mueller et al., 2022) and used as in MN-BaB (Ferrari et al., 2022), and boxes "
        "derived again in parts solved nothing more, here and on the competition's rows below, and "
        "took longer in all: they are removed."
    )
    return "\n\n".join([text, table(head, rows), machine([r["provenance"] for r in records])])


def _throughput(records):
    if not records:
        return None
    rows = [
        [
            r["name"],
            BACKENDS[r["backend"]],
            stage,
            f"{found['inputs_per_second']:.0f}",
            f"{1000 * found['gflop_per_input']:.1f}",
            f"{100 * found['share_of_matrix_work']:.0f}",
        ]
        for r in records
        for stage, found in r["stages"].items()
    ]
    head = ["Model", "Backend", "Stage", "Inputs / s", "MFLOP an input", "Matrix work %"]
    speeds = ", ".join(f"{BACKENDS[r['backend']]} {r['peak_gflops']:.0f}" for r in records)
    text = (
        f"Each stage alone on the same {records[0]['count']} images, float32 bounds without the "
        'checker. "Matrix work" is the floor: the share of the time that the stage\'s affine maps '
        "would take at the speed of one large matrix product in the same process "
        f"({speeds} GFLOP/s)."
    )
    return "\n\n".join([text, table(head, rows)])


def _exact(records):
    if not records:
        return None
    rows = [
        [
            r["name"],
            f"{r['eps']:g}",
            str(r["accuracies"]["count"]),
            str(r["solved_by_milp"]),
            str(r["left_to_the_solver"]),
            f"{100 * r['accuracies']['certified']:.0f}",
            f"{100 * r['accuracies']['unknown']:.0f}",
            f"{r['median_seconds']:.3f}" if r["median_seconds"] is not None else "-",
            f"{r['max_seconds']:.2f}" if r["max_seconds"] is not None else "-",
            str(r["same_verdict_by_branch_and_bound"]),
            f"{r['max_seconds_of_branch_and_bound']:.2f}",
        ]
        for r in records
    ]
    head = [
        "Model", "eps", "Inputs", "Correct", "Left to the solver", "Certified %", "Unknown %",
        "Median s", "Largest s", "Same verdict by branch and bound", "its largest s",
    ]  # fmt: skip
    return "\n\n".join([EXACT, table(head, rows)])


def _bounds(records):
    if not records:
        return None
    rows = [
        [
            r["name"],
            f"{r['eps']:g}",
            str(r["count"]),
            f"{sum(r['unstable_neurons'][1:]):.0f}",
            f"{r['checker_cpu_seconds']['mean']:.2f}",
            f"{r['checker_cpu_seconds']['max']:.2f}",
            f"{r['engine_cpu_seconds']:.2f}",
            BACKENDS[r["backend"]],
            f"{r['peak_gib_of_checker']:.1f}",
        ]
        for r in records
    ]
    head = [
        "Model", "eps", "Images", "Unstable neurons", "Checker s", "its largest", "Engine s",
        "Engine on", "Peak GiB",
    ]  # fmt: skip
    text = (
        "CROWN with bounds on every unstable neuron, forced on the first test images whatever "
        "cheaper stages prove: seconds of CPU an image with one thread, of the float64 checker, "
        "which is the stage `crown`, and of the float32 engine, which serves where no check is "
        "asked for. Unstable neurons are those after the first layer, on average. A network made "
        "several times as wide has each channel that often and computes the same."
    )
    return "\n\n".join([text, table(head, rows)])
