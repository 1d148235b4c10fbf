"""Section of docs/benchmarks.md about the images that cost most."""

from tables_format import NOT_MEASURED, machine, table


def hard_set(content):
    """Section of `hard_set.json`."""
    if not content:
        return NOT_MEASURED
    limits = [f"{limit:g}" for limit in content["limits"]]
    bins = [f"<= {limits[0]} s", *(f"<= {limit} s" for limit in limits[1:]), "undecided"]
    rows, drawn = [], content["images"]
    for name, network in content["networks"].items():
        shares = network["accuracies"]
        chosen = [sum((r["model"], r["bin"]) == (name, n) for r in drawn) for n in range(len(bins))]
        counts = [f"{n} ({k})" for n, k in zip(network["bins"], chosen, strict=True)]
        figures = [f"{100 * shares[key]:.2f}" for key in ("natural", "certified", "unknown")]
        rows.append([name, str(network["images"]), *figures, f"{network['timeout']:g}", *counts])
    head = ["Network", "Images", "Natural %", "Certified %", "Unknown %", "Limit s", *bins]
    text = (
        f"The first MNIST test images at eps {content['eps']:g}, one thread, seconds of CPU. The "
        "columns of seconds count the images that neither an attack nor interval bounds nor "
        f"CROWN-IBP decide; of them {len(drawn)} are drawn (in brackets): their places are in "
        "`hard_set.json`, and any verifier can be tried on them."
    )
    provenances = list(content["networks"].values())
    return "\n\n".join([text, table(head, rows), machine(provenances)])
