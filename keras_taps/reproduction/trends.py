"""Do the paper's findings hold in our numbers: each a difference that should have one sign."""

import math
from dataclasses import dataclass

from keras_taps.reproduction.published import published_splits
from keras_taps.reproduction.results import reference, summary
from keras_taps.reproduction.targets import TARGETS

_SHARES = {"natural": 100, "certified": 100, "taps": 100, "exact_robust_accuracy": 1}


@dataclass(frozen=True)
class Claim:
    """The best of some rows is better than the best of others.

    Args:
        text: What the paper finds.
        better: Rows named by their method or setting, without what stands in parentheses.
        worse: Rows likewise; by default those of `better`.
        quantity: What is compared, the larger the better.
        against: Quantity of `worse`, by default the same.
        sign: -1 where less is better.
        close: Whether the finding is that both are nearly equal.
    """

    text: str
    better: tuple
    worse: tuple = ()
    quantity: str = "certified"
    against: str = ""
    sign: int = 1
    close: bool = False


def _names(template, values):
    return tuple(template.format(value) for value in values)


_WEIGHTS = _names("w={}", (0, 1, 5, 10, 15, 20, "inf"))
_ATTACKS = tuple(f"{n} steps, {r}" for n in (5, 20, 100) for r in ("1 restart", "3 restarts"))
_ABSOLUTE = "{}: mean_abs_error"
_EXACT = "exact_robust_accuracy"
CLAIMS = {
    "table2": (
        Claim("Some weight certifies more than IBP alone", _WEIGHTS, ("IBP loss only",)),
        Claim("Some weight certifies more than the TAPS loss alone", _WEIGHTS, ("TAPS loss only",)),
        Claim("A finite weight certifies more than an infinite one", _WEIGHTS[:-1], _WEIGHTS[-1:]),
        Claim("A large weight is more accurate than IBP alone", _WEIGHTS[3:6], ("IBP loss only",),
              "natural"),
    ),
    "table3": tuple(
        Claim(f"Behind {split}, the multi estimator certifies more than the single one",
              (f"{split}, multi estimator",), (f"{split}, single estimator",))
        for split in ("1 ReLU", "3 ReLUs", "6 ReLUs")
    ),
    "table4": (
        Claim("One step is nearly as good as many", _ATTACKS, ("1 steps, 1 restart",), close=True),
    ),
    "table11": (
        Claim("TAPS at its best split certifies more than at 0, which is IBP",
              _names("{} ReLUs", range(1, 7)), ("0 ReLUs",)),
    ),
    "figure8": tuple(
        Claim(f"TAPS accuracy is higher at c = 0.5 than at {c}", ("c=0.5",), (f"c={c}",), "taps")
        for c in (0, 1)
    ),
    "figure1": (
        *(
            Claim(f"Trained by {method}, TAPS is nearer to the exact margin than {bound}",
                  (method,), (), _ABSOLUTE.format("TAPS"), _ABSOLUTE.format(bound), -1)
            for method in ("TAPS", "STAPS")
            for bound in ("IBP", "SABR", "PGD")
        ),
        *(
            Claim(f"{one} trains to a higher exact robust accuracy than {other}",
                  (one,), (other,), _EXACT)
            for one, other in (("SABR", "IBP"), ("TAPS", "SABR"), ("STAPS", "TAPS"))
        ),
    ),
}  # fmt: skip
CLAIMS["table12"] = CLAIMS["table11"]


def trends(content):
    """What becomes of the paper's findings in the results of a target.

    Args:
        content: What `reproduce` returns.

    Returns:
        List of dictionaries: `claim`; `eps`; `paper` and `ours`, the difference that should be
        positive, `None` where a number is missing; `ours_best`, which row it is if there are
        several; `noise`, the standard error of our difference from the number of test images and
        seeds, for rows that were certified independently; `holds`: 'yes', 'no', or 'too close'
        where the difference is within the noise. Claims of which we have no numbers are left out.

    Example:

    >>> trends({"target": "table13", "records": []})
    []
    """
    target = TARGETS[content["target"]]
    rows = summary(content)
    counts = {record.get("count", 0) for record in content["records"]}
    found = []
    for eps in dict.fromkeys(row["eps"] for row in rows):
        own = [row for row in rows if row["eps"] == eps]
        ours = {_name(row): {k: mean for k, (mean, _) in row["figures"].items()} for row in own}
        paper = {
            _name(row.key): reference(target, row.key) for row in target.rows if row.eps == eps
        }
        images = min(counts) * min(row["seeds"] for row in own)
        for claim in CLAIMS.get(target.name, ()):
            better, worse, name = _difference(claim, ours)
            if better is not None and worse is not None:
                difference, noise = claim.sign * (better - worse), _noise(claim, better, images)
                theirs = _difference(claim, paper)
                missing = theirs[0] is None or theirs[1] is None
                found.append(
                    {
                        "claim": claim.text,
                        "eps": eps,
                        "paper": None if missing else claim.sign * (theirs[0] - theirs[1]),
                        "ours": difference,
                        "ours_best": name if len(claim.better) > 1 else "",
                        "noise": noise,
                        "holds": _verdict(difference, noise, claim.close),
                    }
                )
        if target.kind == "splits":
            found.append(_matched_splits(own, eps))
    return found


def _name(row):
    """Name of a row in claims: its setting, or its method if it has none."""
    method, setting = row[2:] if isinstance(row, tuple) else (row["method"], row["setting"])
    return setting.split(" (")[0] or method


def _difference(claim, figures):
    """`(better, worse, name)`: both numbers and the row of the first; `None` where missing."""

    def best(names, quantity):
        known = {n: figures[n][quantity] for n in names if quantity in figures.get(n, {})}
        name = max(known, key=lambda n: claim.sign * known[n], default=None)
        return known.get(name), name

    better, name = best(claim.better, claim.quantity)
    worse, _ = best(claim.worse or claim.better, claim.against or claim.quantity)
    return better, worse, name


def _noise(claim, value, images):
    """Standard error of the difference of two shares near `value`; 0 for other quantities."""
    whole = _SHARES.get(claim.quantity)
    if not whole or not images:
        return 0.0
    share = value / whole
    return whole * math.sqrt(2 * share * (1 - share) / images)


def _verdict(difference, noise, close):
    if abs(difference) <= noise:
        return "yes" if close else "too close"
    return "no" if close or difference < 0 else "yes"


def _matched_splits(rows, eps):
    """Whether a network does best at the split that it was trained for (Figures 10 and 11)."""
    ours = {
        int(row["setting"].split()[0]): {
            int(name.split()[1]): mean
            for name, (mean, _) in row["figures"].items()
            if name.startswith("taps, ")
        }
        for row in rows
    }
    paper = {}
    for (trained, tested), share in published_splits(rows[0]["dataset"], eps).items():
        paper.setdefault(trained, {})[tested] = share
    theirs, own = _matches(paper), _matches(ours)
    return {
        "claim": "At each split of the test, the network trained with that split is the best",
        "eps": eps,
        "paper": "{} of {}".format(*theirs),
        "ours": "{} of {}".format(*own),
        "ours_best": "",
        "noise": 0.0,
        "holds": "yes" if own[0] == own[1] else "no" if 2 * own[0] < own[1] else "partly",
    }


def _matches(table):
    """`(matches, splits)` of TAPS accuracies by the split in training and in the test."""
    tested = [split for split in table if split]
    best = [max(table, key=lambda trained: table[trained][split]) for split in tested]
    return sum(a == b for a, b in zip(tested, best, strict=True)), len(tested)


def trend_table(content):
    """The same as texts.

    Returns:
        `(head, rows)`: names of the columns, and lists of cells; no rows without claims.
    """
    rows = [
        [
            each["claim"],
            each["eps"],
            _text(each["paper"]),
            _text(each["ours"])
            + (f" ± {each['noise']:.2g}" if each["noise"] else "")
            + (f" ({each['ours_best']})" if each["ours_best"] else ""),
            each["holds"],
        ]
        for each in trends(content)
    ]
    return ["the paper finds", "eps", "paper", "ours", "holds"], rows


def _text(value):
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:+.3g}"
