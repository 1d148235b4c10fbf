"""Cells and tables in Markdown, for the pages that benchmarks write."""

import statistics

NOT_MEASURED = "*Not measured yet.*"
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def table(head, rows):
    """Markdown table; columns without a letter, those of numbers, are right, the others left."""
    columns = zip(*rows, strict=True)
    line = ["---" if any(map(str.isalpha, "".join(column))) else "---:" for column in columns]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, line, *rows])


def mean_and_deviation(values, digits):
    """`mean ± deviation`, without a deviation for a single value."""
    mean = f"{statistics.fmean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.{digits}f}"


def percent(share, digits=1):
    """A share in percent, or a dash where there is none."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


def ratio(value, reference):
    """Quotient, or a dash without a reference."""
    return f"{value / reference:.2f}" if reference else "-"


def machine(provenances):
    """One line on where results come from."""
    lines = set()
    for p in provenances:
        versions = ", ".join(f"{name} {v}" for name, v in p["versions"].items() if v)
        commit = (p["commit"] or "unknown")[:10] + (" with changes" * p["package_modified"])
        day = p["date"][:10]
        flags = "".join(f", {name}" for name in p.get("cpu_flags", []))
        cpu = f"{p['cpu']}{flags}, {p['usable_cores']} cores"
        lines.add(f"- {day}: {cpu}; {versions}; commit {commit}.")
    return "\n".join(sorted(lines))
