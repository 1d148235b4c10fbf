"""Table of what the other systems of the paper cost."""

from tables_format import BACKENDS, NOT_MEASURED, machine, ratio, table


def other_systems(records):
    """Rows of `other_systems.json`, in the order of its cases."""
    if not records:
        return NOT_MEASURED
    plain = {(r["backend"], r["network"]): r["step_s"] for r in records if r["method"] == "ibp"}
    rows = [
        [
            f"`{r['case']}`",
            BACKENDS[r["backend"]],
            r["network"],
            str(r["batch"]),
            f"{r['step_s']:.3f}",
            ratio(r["step_s"], plain.get((r["backend"], r["network"]))),
            f"{r['training_mib'] / 1024:.1f}",
            f"{r['evaluation_s']:.1f}" if "evaluation_s" in r else "-",
            f"{r['evaluation_mib'] / 1024:.1f}" if "evaluation_s" in r else "-",
        ]
        for r in records
    ]
    head = ["Case", "Backend", "Network", "Batch", "s a step", "/ IBP", "GiB"]
    head += ["s a validated batch", "GiB then"]
    return "\n\n".join([table(head, rows), machine([r["provenance"] for r in records])])
