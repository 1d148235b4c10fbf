"""From the records of a target to figures beside the paper's: means over seeds, long rows."""

import statistics

import numpy as np

from keras_taps.reproduction.published import (
    KEY,
    published,
    published_errors,
    published_splits,
)

_MOST_RELUS = 6  # of CNN7
_TESTED = "taps, {} ReLUs in the test"
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
    """Everything measured in a record as one flat dictionary of numbers, accuracies in percent."""
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
            found |= {_TESTED.format(split): share for split, share in value.items()}
        elif name == "exact_robust_accuracy":
            found[name] = 100 * value
        elif isinstance(value, (int, float)) and name not in ("seed", "images", "count"):
            found[name] = value
    return found


def packed(verdicts):
    """A yes or no of each image as one text, to compare networks image by image.

    Example:

    >>> unpacked(packed([True, False, True]), 3).tolist()
    [True, False, True]
    """
    return np.packbits(np.asarray(verdicts, bool)).tobytes().hex()


def unpacked(text, count):
    """The booleans of `packed`, of `count` images."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)


def without_remark(setting):
    """A setting without what the paper remarks on its own run, in parentheses at the end.

    Example:

    >>> without_remark("w=inf (part of the test set)")
    'w=inf'
    """
    return setting.split(" (")[0]


def remark(setting):
    """That remark, "" if there is none.

    Example:

    >>> remark("w=inf (part of the test set)")
    'part of the test set'
    """
    return setting.partition(" (")[2].removesuffix(")")


def relus(setting):
    """Number of ReLUs in the classifier of a row such as '3 ReLUs'."""
    return int(setting.split()[0])


def tested_splits(figures):
    """TAPS accuracies by the split of the test, from the figures of a row.

    Example:

    >>> tested_splits({"taps, 2 ReLUs in the test": (95.0, None), "natural": (98.0, None)})
    {2: 95.0}
    """
    found = {split: figures.get(_TESTED.format(split)) for split in range(_MOST_RELUS + 1)}
    return {split: figure[0] for split, figure in found.items() if figure}


def _means(found):
    names = dict.fromkeys(name for each in found for name in each)
    values = {name: [each[name] for each in found if name in each] for name in names}
    return {
        name: (statistics.fmean(each), statistics.stdev(each) if len(each) > 1 else None)
        for name, each in values.items()
    }


def means(row):
    """The means of a row of `summary`, without deviations."""
    return {name: mean for name, (mean, _) in row["figures"].items()}


def reference(target, key):
    """The paper's numbers of a row under the names of `summary`.

    Args:
        target: `Target`.
        key: `(dataset, eps, method, setting)`.

    Returns:
        Dictionary from quantities to numbers; with `_std` after a name, to its deviation.
    """
    dataset, eps, method, setting = key
    if target.kind == "approximation":
        errors = published_errors()
        own = {bound: row for (trained, bound), row in errors.items() if trained == method}
        found = {f"{bound}: {name}": row[name] for bound, row in own.items() for name in ERRORS}
        for row in own.values():  # the same in each
            found["exact_robust_accuracy"] = 100 * row["exact_robust_accuracy"]
        return found
    if target.kind == "splits":
        own = relus(setting)
        return {
            _TESTED.format(tested): 100 * share
            for (trained, tested), share in published_splits(dataset, eps).items()
            if trained == own
        }
    found = target.published.get(key, {})
    return {name.removesuffix("_mean"): value for name, value in found.items()}


def long_rows(target, content):
    """One dictionary a row and quantity: ours and the paper's, for a CSV file.

    Args:
        target: `Target`.
        content: What `reproduce` returns. Its correlations follow as rows of their data set.
    """
    found = []
    for row in summary(content):
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
    for dataset, own in content.get("correlations", {}).items():
        paper = published_correlations().get(dataset, {})
        found += [
            {"dataset": dataset, "quantity": name, "mean": value, "paper": paper.get(name)}
            for name, value in own.items()
        ]
    return found


def published_correlations():
    """Table 10 of the paper: dictionary from data sets to quantities."""
    return {key[0]: row for key, row in published("10").items()}


def correlations(records):
    """How well TAPS accuracy stands for adversarial and certified accuracy: Table 10.

    Args:
        records: Records with `model`, and `taps`, `adversarial` and `certified` in percent.

    Returns:
        Dictionary from data sets to `corr_taps_cert`, `corr_taps_adv`, and mean and deviation of
        the differences of shares in [0, 1]; data sets with fewer than three networks are left out.

    References:
        Mao et al. 2023, appendix C, "TAPS Accuracy as GoF".
    """
    found = {}
    for dataset in dict.fromkeys(record["dataset"] for record in records):
        own = {record["model"]: record for record in records if record["dataset"] == dataset}
        own = list(own.values())  # settings of several tables may be one network
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
