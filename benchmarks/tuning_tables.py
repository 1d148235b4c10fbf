"""Section of docs/benchmarks.md about searches, and the picture of their fronts."""

import statistics
from pathlib import Path

from pictures import save_picture, shows
from provenance import read_json
from tables_format import BACKENDS, NOT_MEASURED, machine, percent, table

FIGURES = {
    "val_natural_accuracy": "Natural",
    "val_ibp_certified_accuracy": "IBP",
    "val_taps_accuracy": "TAPS",
    "val_certified_accuracy": "Certified",
    "val_unknown": "Unknown",
}
PICTURE = "tuning_fronts.png"
_SECONDS = ("train_seconds", "certify_seconds")
_SETTING = """\
MNIST, eps 0.1, {network} of width {width}, {epochs} epochs of {limit} images a trial; percent of
the validation images, "certified" and "unknown" by the complete verifier on {images} of them with
{timeout} s each; {backend}, seed {seed}."""


def section(results):
    """Markdown of `tuning_*.json`."""
    parts = {"grid": _grid, "fronts": _fronts, "workers": _workers}
    found = []
    for name, write in parts.items():
        content = _content(results, name)
        if content:
            found.append(write(content))
    return "\n\n".join(found) or NOT_MEASURED


def _content(results, name):
    return read_json(Path(results) / f"tuning_{name}.json")


def _setting(record):
    config = record["config"]
    return _SETTING.format(
        network=config["recipe"]["network"].upper(),
        width=config["recipe"]["width"],
        epochs=config["recipe"]["epochs"],
        limit=config["limit"] or "all",
        images=config["certify_count"],
        timeout=config["timeout"],
        backend=BACKENDS[record["backend"]],
        seed=config["seed"],
    )


def _cost(rows):
    """Mean seconds of training and of certification, of the trials that are complete."""
    whole = [row for row in rows if row.get("certify_seconds") is not None]
    return [f"{sum(row[name] for row in whole) / max(len(whole), 1):.0f}" for name in _SECONDS]


def _goodness(rows):
    """How well TAPS accuracy, which costs no proof, stands for certified accuracy."""
    names = ("val_taps_accuracy", "val_certified_accuracy")
    pairs = [[row[name] for name in names] for row in rows if row.get(names[1]) is not None]
    taps, certified = zip(*pairs, strict=True)
    if len(pairs) < 3 or len(set(taps)) == 1 or len(set(certified)) == 1:
        return ""
    correlation = statistics.correlation(taps, certified)
    distance = 100 * statistics.fmean(abs(a - b) for a, b in pairs)
    return (
        f" Over {len(pairs)} trials TAPS accuracy, by which a search can choose without a proof, "
        f"has the correlation {correlation:.3f} with certified accuracy, and lies {distance:.2f} "
        "points from it on average."
    )


def _peaks(records):
    """At which weight the most is certified, by split."""
    best = {}
    for record in records:
        for trial in record["trials"]:
            key, share = trial["classifier_relus"], trial.get("val_certified_accuracy") or 0
            if share > best.get(key, (0, None))[0]:
                best[key] = share, record["study"].removeprefix("grid-w")
    found = [f"{w} with {split}" for split, (_, w) in sorted(best.items()) if split]
    return (
        f" The most is certified at a weight of {', of '.join(found)} ReLUs after the split."
        if found
        else ""
    )


def _grid(content):
    rows = []
    for record in content["records"]:
        weight = record["study"].removeprefix("grid-w")
        for trial in record["trials"]:
            split = trial["classifier_relus"]
            figures = [percent(trial.get(name)) for name in FIGURES]
            name = "any" if split == 0 else weight
            rows.append([str(split), name, *figures, *_cost([trial])])
    rows.sort(key=lambda row: (row[0], float("-inf") if row[1] == "any" else float(row[1])))
    head = ["ReLUs after the split", "w_TAPS", *FIGURES.values(), "s training", "s certifying"]
    records = content["records"]
    text = "**TAPS by split and weight.** " + _setting(records[0])
    text += _peaks(records) + _goodness([each for r in records for each in r["trials"]])
    return "\n\n".join([text, table(head, rows), machine([r["provenance"] for r in records])])


def _fronts(content):
    (record,) = content["records"]
    rows = []
    for method, front in record["fronts"].items():
        trials = [row for row in record["trials"] if row["method"] == method]
        best = max(trials, key=lambda row: row.get("val_certified_accuracy") or 0)
        figures = [percent(best.get(name)) for name in FIGURES]
        volume = f"{front['hypervolume']:.4f}"
        rows.append(
            [method, str(len(trials)), str(len(front["trials"])), volume, *figures, *_cost(trials)]
        )
    head = [
        "Method",
        "Trials",
        "on the front",
        "Hypervolume",
        *(f"{name}, best" for name in FIGURES.values()),
        "s training",
        "s certifying",
    ]
    text = f"**Fronts of five methods.** The same number of trials each. {_setting(record)}"
    text += _goodness(record["trials"])
    picture = f"![Natural and certified accuracy of the trials of five methods](images/{PICTURE})"
    return "\n\n".join([text, picture, table(head, rows), machine([record["provenance"]])])


def _workers(content):
    found = content.get("comparison")
    if not found:
        return NOT_MEASURED
    one, three = content["records"]
    text = (
        f"**One process, and a chief with two workers.** A random search of {len(one['trials'])} "
        f"trials, twice: {one['this_session_s']:.0f} s by one process, "
        f"{three['this_session_s']:.0f} s by a chief and two workers on the same cores. "
        f"{'The same' if found['same_values'] else 'Not the same'} values were drawn, the "
        f"{'same trial' if found['same_best_trial'] else 'best trials differ, and none'} was best, "
        f"and no figure differs by more than {100 * found['largest_difference']:.2g} points."
    )
    return "\n\n".join([text, machine([r["provenance"] for r in content["records"]])])


def pictures(results, folder):
    """Draw the fronts."""
    from keras_taps import plots
    from keras_taps.tuning import ParetoFront

    trials = _trials(results)
    if trials:
        fronts = {method: ParetoFront(rows) for method, rows in trials.items()}
        save_picture(plots.pareto(fronts), Path(folder) / PICTURE, trials)


def stale_pictures(results, folder):
    """Paths of the pictures that do not show the results."""
    trials, path = _trials(results), Path(folder) / PICTURE
    return [path] if trials and not shows(path, trials) else []


def _trials(results):
    """Dictionary from each method to its trials."""
    content, found = _content(results, "fronts"), {}
    for row in content["records"][0]["trials"] if content else ():
        found.setdefault(row["method"], []).append(row)
    return found
