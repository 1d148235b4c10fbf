"""Sections of docs/benchmarks.md about convolutions: JAX's derivatives, and small ones."""

from tables_format import BACKENDS, NOT_MEASURED, machine, ratio, table

PLACES = {"top": "top level", "loop": "in a loop", "branch": "in a branch"}


def convolution(content):
    """Section of `convolution.json`."""
    if not content:
        return NOT_MEASURED
    rows = []
    for record in content["records"]:
        batch, pixels, channels, filters, window, stride = record["shape"]
        name = f"{batch} x {pixels} x {pixels} x {channels} to {filters}, {window} x {window}"
        speeds = record["gflops"]
        figures = [(speeds["jax"][place], speeds["keras_taps"][place]) for place in PLACES]
        cells = [cell for old, new in figures for cell in (f"{old:.1f}", f"{new:.1f}")]
        rows.append([name, str(stride), *cells])
    head = ["Convolution", "Stride"]
    head += [f"{place}: {whose}" for place in PLACES.values() for whose in ("JAX", "ours")]
    return "\n\n".join([table(head, rows), machine([content["provenance"]])])


def small_convolutions(records):
    """Section of `small_convolutions.json`."""
    if not records:
        return NOT_MEASURED
    found = {(tuple(r["shape"]), r["backend"]): r for r in records}
    shapes = sorted({(r["entries"], tuple(r["shape"])) for r in records})
    rows = []
    for entries, shape in shapes:
        own = [found.get((shape, backend)) for backend in BACKENDS]
        pixels, channels, filters, window, stride = shape
        gains = [
            ratio(r["median_s"]["convolution"], r["median_s"]["matrix"]) if r else "-" for r in own
        ]
        taken = "matrix" if any(r["matrix"] for r in own if r) else "convolution"
        name = f"{pixels} x {pixels} x {channels} to {filters}, {window} x {window}"
        rows.append([name, str(stride), str(entries), *gains, taken])
    head = ["Convolution", "Stride", "Entries", *BACKENDS.values(), "Taken"]
    return "\n\n".join([table(head, rows), machine([r["provenance"] for r in records])])
