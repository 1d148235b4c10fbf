"""Section of docs/benchmarks.md about convolutions on JAX's CPU."""

from tables_format import NOT_MEASURED, machine, table

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
