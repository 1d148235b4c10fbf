"""Section of docs/benchmarks.md about the run on a GPU, from `results/gpu/*.json`."""

from collections import defaultdict

from gpu_steps import tf32
from provenance import read_json
from tables_format import BACKENDS, ratio, table

NOT_RUN = "*Not run yet.*"
IMPLEMENTATIONS = {**BACKENDS, "eager-torch": "eager PyTorch"}
FIGURES = ("natural", "pgd", "ibp_certified", "taps")
STAGES = {
    "ibp": "IBP",
    "attack": "attack",
    "crown-ibp": "CROWN-IBP",
    "crown": "CROWN",
    "alpha-crown": "alpha-CROWN",
    "bab": "branch and bound",
}


def section(folder):
    """The section, or a sentence that says that nothing was run."""
    parts = {
        name: read_json(folder / f"{name}.json")
        for name in ("numbers", "steps", "training", "certification")
    }
    if not any(parts.values()):
        return NOT_RUN
    makers = (numbers, steps, training, certification)
    texts = []
    for make, (name, content) in zip(makers, parts.items(), strict=True):
        texts.append(f"### {TITLES[name]}")
        texts.append(make(content) if content else NOT_RUN)
        if content:
            texts.append(origin(content))
    return "\n\n".join(texts)


TITLES = {
    "numbers": "The CPU's numbers on the card",
    "steps": "A training step on the card",
    "training": "Recipes on the card",
    "certification": "Stages of certification on the card",
}


def origin(content):
    """Card, versions, date and problems of a part."""
    p = content["provenance"]
    card = p["card"] or {"name": "no card", "driver": "-"}
    versions = ", ".join(f"{name} {v}" for name, v in p["versions"].items() if v)
    changed = " with changes" * bool(p["package_modified"])
    lines = [
        f"- {p['date'][:10]}: {card['name']}, driver {card['driver']}; {versions}; commit "
        f"{(p['commit'] or 'unknown')[:10]}{changed}; `{p['command']}`."
    ]
    lines += [f"- {note}." for note in content.get("notes", [])]
    lines += [f"- Not as planned: {problem}." for problem in content["problems"]]
    return "\n".join(lines)


def numbers(content):
    """Largest error of each operation, by backend, with and without TF32."""
    kinds = defaultdict(dict)
    for row in content["rows"]:
        kind = row["operation"].split()[0]
        cell = kinds[kind]
        key = row["backend"], row["tf32"]
        error = float("inf") if row["error"] is None else row["error"]
        cell[key] = max(cell.get(key, 0.0), error)
        cell["spread"] = max(cell.get("spread", 0.0), row["spread"])
        cell["tolerance"] = row["tolerance"]
    columns = [(b, m) for m in ("off", "on") for b in BACKENDS if b != "tensorflow"]
    head = ["Operation", "CPU's backends", "tolerance"]
    head += [f"{BACKENDS[b]}, TF32 {mode}" for b, mode in columns]
    rows = [
        [
            kind,
            *(f"{cell[name]:.1e}" for name in ("spread", "tolerance")),
            *(f"{cell[key]:.1e}" if key in cell else "-" for key in columns),
        ]
        for kind, cell in kinds.items()
    ]
    outside = [r for r in content["rows"] if r["tf32"] == "off" and not r["within"]]
    words = (
        f"{len([r for r in content['rows'] if r['tf32'] == 'off'])} comparisons without TF32, "
        f"{len(outside)} of them outside their tolerance. Errors are norms relative to the mean of "
        "three backends on a CPU, the largest over networks and methods; the first column is how "
        "far the CPU's own backends are from that mean."
    )
    return "\n\n".join([words, table(head, rows)])


def steps(content):
    """Seconds by implementation and TF32, beside the eager step of the same mode."""
    rows = []
    for measurement in content["measurements"]:
        eager = {
            r["tf32"]: r["median_s"]
            for r in measurement["results"]
            if r["implementation"] == "eager-torch"
        }
        for row in sorted(measurement["results"], key=lambda r: r["tf32"]):
            setting = tf32(row["tf32"])
            ceiling = (measurement["ceiling"] or {}).get(setting)
            rows.append(
                [
                    measurement["configuration"]["name"],
                    IMPLEMENTATIONS[row["implementation"]],
                    row["tf32"],
                    f"{1000 * row['median_s']:.1f}",
                    ratio(row["median_s"], eager.get(setting)),
                    f"{ceiling['seconds'] / row['median_s']:.2f}" if ceiling else "-",
                    f"{row['first_step_s']:.0f}",
                    f"{row['peak_device_mib']:.0f}" if "peak_device_mib" in row else "-",
                ]
            )
        for row in measurement["failed"]:
            name = measurement["configuration"]["name"], IMPLEMENTATIONS[row["implementation"]]
            rows.append([*name, row["tf32"], *["failed"] * 2, *["-"] * 3])
    head = ["Step", "Implementation", "TF32", "Median ms", "/ eager", "Ceiling / median"]
    head += ["First step s", "Peak MiB on the card"]
    words = (
        'Median of the steps after warm-up. "Ceiling" is the step\'s convolutions and matrix '
        "products by PyTorch's primitives with the same TF32, in float32; the first step compiles, "
        "beside the other implementations. On JAX, peaks include the workspaces of its choice of "
        "algorithms."
    )
    left = content.get("left_out")
    more = [f"No time was left for: {', '.join(left)}."] if left else []
    return "\n\n".join([words, table(head, rows), *more])


def training(content):
    """What each run reached."""
    rows = []
    for run in content["runs"].values():
        recipe, metrics = run["recipe"], run["metrics"]
        later = run["epoch_s"][1:] or run["epoch_s"]
        rows.append(
            [
                recipe["name"],
                str(recipe["width"]),
                f"{run['epochs_done']} of {recipe['epochs']}",
                f"{sorted(later)[len(later) // 2]:.1f}",
                *(f"{100 * metrics[f'{name}_accuracy']:.2f}" for name in FIGURES),
                metrics["model"],
            ]
        )
    head = ["Recipe", "Width", "Epochs", "s an epoch", "Natural", "PGD", "IBP-certified", "TAPS"]
    words = (
        "CNN7 on MNIST, JAX, seed 0, TF32 as JAX has it (on); percent of the 10 000 test images, "
        "the model selected as in every run. The runs shared the card, so seconds are no measure "
        "of one alone; a run that the time cut short ends before its last learning rates."
    )
    return "\n\n".join([words, table([*head, "Model"], rows)])


def certification(content):
    """Inputs a second of each stage."""
    rows = []
    for found in content.values():
        if not isinstance(found, dict) or "stages" not in found:
            continue
        for stage, figures in found["stages"].items():
            if not figures.get("inputs"):
                continue
            speed = figures.get("inputs_per_second")
            domains = figures.get("domains_per_second")
            rows.append(
                [
                    found["model"],
                    BACKENDS[found["backend"]],
                    STAGES[stage],
                    str(figures["inputs"]),
                    f"{speed:.1f}" if speed else "-",
                    f"{domains:.0f}" if domains else "-",
                ]
            )
        for stage, reason in found["failed"].items():
            rows.append(
                [found["model"], BACKENDS[found["backend"]], STAGES[stage], reason, "-", "-"]
            )
    head = ["Model", "Backend", "Stage", "Inputs", "Inputs a second", "Domains a second"]
    words = (
        "The float32 search alone; the float64 check runs on the CPU and is not in these figures."
    )
    return "\n\n".join([words, table(head, rows)])
