"""Section of docs/benchmarks.md about the time before anything happens."""

from tables_format import BACKENDS, NOT_MEASURED, machine, ratio, table

_TEXT = """\
Median wall seconds of {rounds} new processes each, taking turns. "Before" is commit
{commit}, whose import loaded everything; now a name is imported when it is first asked
for, and a command imports Keras when it has work for it. Naming a class still waits for Keras."""


def startup(content):
    """Section of `startup.json`."""
    if not content:
        return NOT_MEASURED
    records = content["records"]
    medians = {(r["backend"], r["package"], r["command"]): r["median_s"] for r in records}
    rows = []
    for backend, package, command in medians:
        if package == "before":
            continue
        now, before = medians[backend, package, command], medians.get((backend, "before", command))
        rows.append(
            [
                f"`{command}`",
                BACKENDS[backend],
                f"{before:.2f}" if before else "-",
                f"{now:.2f}",
                ratio(before, now) if before else "-",
            ]
        )
    text = _TEXT.format(rounds=len(records[0]["seconds"]), commit=content["before"][:10])
    head = ["Command", "Backend", "Before", "Now", "Before / now"]
    return "\n\n".join([text, table(head, rows), machine([content["provenance"]])])
