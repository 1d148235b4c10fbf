"""From the records of a target to figures beside the paper's: means over seeds, long rows."""

import statistics

from keras_taps.reproduction.published import (
    KEY,
    published,
    published_errors,
    published_splits,
)

# Parts of the names of what a table shows of a figure without quantities of its own.
_PARTS = {
    "approximation": ("_error", "fraction", "exact_robust"),
    "differences": ("difference",),
    "split_matrix": ("taps,",),
}
ERRORS = ("mean_error", "mean_abs_error", "std_error", "fraction_margin_below_0")


def summary(content):
    """Mean and deviation of everything measured, over seeds.

    Args:
        content: What `reproduce` returns.

    Returns:
        List of dictionaries, one a row in the order of the target: `dataset`, `eps`, `method`,
        `setting`, `seeds`, and `figures`, from each quantity to `(mean, deviation)`; the deviation
        of a single seed is `None`.

    Example:

    >>> record = {"dataset": "mnist", "eps": "0.1", "method": "IBP", "setting": "", "natural": 98.0}
    >>> summary({"records": [record | {"seed": 0}]})[0]["figures"]["natural"]
    (98.0, None)
    """
    rows = {}
    for record in content["records"]:
        rows.setdefault(tuple(record[name] for name in KEY), []).append(record)
    return [
        {
            **dict(zip(KEY, key, strict=True)),
            "seeds": len(records),
            "figures": _means([_numbers(record) for record in records]),
        }
        for key, records in rows.items()
    ]


def _numbers(record):
    """Everything measured in a record as one flat dictionary of numbers."""
    found = {}
    for name, value in record.items():
        if name == "errors":
            for method, error in value.items():
                found |= {f"{method}: {each}": error[each] for each in ERRORS}
        elif name == "differences":
            for pair, each in value.items():
                found[f"{pair}: mean_difference"] = each["mean_error"]
                found[f"{pair}: std_difference"] = each["std_error"]
        elif name == "taps_by_split":
            found |= {f"taps, {split} ReLUs in the test": share for split, share in value.items()}
        elif isinstance(value, (int, float)) and name not in ("seed", "images", "count"):
            found[name] = value
    return found


def _means(found):
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: [each[name] for each in found if name in each] for name in names}
    return {
        name: (statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else None)
        for name, each in values.items()
    }


def reference(target, key):
    """The paper's numbers of a row under the names of `summary`.

    Args:
        target: `Target`.
        key: `(dataset, eps, method, setting)`.

    Returns:
        Dictionary from quantities to numbers; with `_std` behind a name, to its deviation.
    """
    dataset, eps, method, setting = key
    if target.kind == "approximation":
        errors = published_errors()
        trained = "adv" if method == "PGD" else method
        own = {bound: row for (each, bound), row in errors.items() if each == trained}
        found = {f"{bound}: {name}": row[name] for bound, row in own.items() for name in ERRORS}
        for row in own.values():  # the same in each
            found["exact_robust_accuracy"] = row["exact_robust_accuracy"]
        return found
    if target.kind == "splits":
        own = int(setting.split()[0])
        return {
            f"taps, {tested} ReLUs in the test": 100 * share
            for (trained, tested), share in published_splits(dataset, eps).items()
            if trained == own
        }
    found = target.published.get(key, {})
    return {name.removesuffix("_mean"): value for name, value in found.items()}


def long_rows(target, rows):
    """One dictionary a row and quantity: ours and the paper's, for a CSV file.

    Args:
        target: `Target`.
        rows: What `summary` returns.
    """
    found = []
    for row in rows:
        key = tuple(row[name] for name in KEY)
        paper = reference(target, key)
        for quantity, (mean, deviation) in row["figures"].items():
            found.append(
                {
                    **dict(zip(KEY, key, strict=True)),
                    "quantity": quantity,
                    "mean": mean,
                    "deviation": deviation,
                    "seeds": row["seeds"],
                    "paper": paper.get(quantity),
                    "paper_deviation": paper.get(f"{quantity}_std"),
                }
            )
    return found


def correlations(records):
    """How well TAPS accuracy stands for adversarial and certified accuracy: Table 10.

    Args:
        records: Records with `taps`, `adversarial` and `certified` in percent.

    Returns:
        Dictionary from data sets to `corr_taps_cert`, `corr_taps_adv`, and mean and deviation of
        the differences of shares in [0, 1]; data sets with fewer than three networks are left out.

    References:
        Mao et al. 2023, appendix C, "TAPS Accuracy as GoF".
    """
    found = {}
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        own = [record for record in records if record["dataset"] == dataset]
        if len(own) < 3:
            continue
        taps = [record["taps"] / 100 for record in own]
        found[dataset] = {"networks": len(own)}
        for name, quantity in (("cert", "certified"), ("adv", "adversarial")):
            others = [record[quantity] / 100 for record in own]
            gaps = [a - b for a, b in zip(taps, others, strict=True)]
            varied = len(set(taps)) > 1 and len(set(others)) > 1
            found[dataset] |= {
                f"corr_taps_{name}": statistics.correlation(taps, others) if varied else None,
                f"taps_minus_{name}_mean": statistics.fmean(gaps),
                f"taps_minus_{name}_std": statistics.stdev(gaps),
            }
    return found


def table_of(target, content):
    """The results of a target as a table of texts, ours before the paper's.

    Args:
        target: `Target`.
        content: What `reproduce` returns.

    Returns:
        `(head, rows)`: names of the columns, and lists of cells.
    """
    if target.kind == "goodness":
        return _correlation_table(content)
    rows = summary(content)
    found = dict.fromkeys(name for row in rows for name in row["figures"])
    parts = _PARTS.get(target.figure, ())
    quantities = target.quantities or [name for name in found if any(p in name for p in parts)]
    if len(quantities) > 6:  # a long table reads better downwards
        head = ["eps", "method", "setting", "quantity", "ours", "paper"]
        cells = [
            [row["eps"], row["method"], row["setting"], name, *_pair(target, row, name)]
            for row in rows
            for name in quantities
            if name in row["figures"]
        ]
        return head, cells
    head = [*KEY, *(each for name in quantities for each in (name, "paper"))]
    cells = [
        [
            *(row[name] for name in KEY),
            *(cell for name in quantities for cell in _pair(target, row, name)),
        ]
        for row in rows
    ]
    return head, cells


def _pair(target, row, quantity):
    """Cells of a quantity: ours and the paper's."""
    paper = reference(target, tuple(row[name] for name in KEY))
    own = row["figures"].get(quantity, (None, None))
    return _number(*own, quantity), _number(
        paper.get(quantity), paper.get(f"{quantity}_std"), quantity
    )


def _number(value, deviation, quantity):
    if value is None:
        return "-"
    digits = 4 if ":" in quantity or quantity.startswith(("exact", "corr")) else 2
    digits = 0 if quantity in ("train_seconds", "certify_seconds") else digits
    text = f"{value:.{digits}f}"
    return text if deviation is None else f"{text} ± {deviation:.{digits}f}"


def _correlation_table(content):
    head = ["dataset", "networks", "quantity", "ours", "paper"]
    paper = {key[0]: row for key, row in published("10").items()}
    rows = [
        [
            dataset,
            str(found["networks"]),
            name,
            "-" if value is None else f"{value:.4f}",
            f"{paper[dataset][name]:.4f}" if dataset in paper else "-",
        ]
        for dataset, found in content["correlations"].items()
        for name, value in found.items()
        if name != "networks"
    ]
    return head, rows
