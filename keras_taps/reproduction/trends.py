"""Does what the paper's numbers show hold in ours?"""

import math
import statistics

from keras_taps.reproduction.claims import CLAIMS, CLOSE
from keras_taps.reproduction.results import reference, summary, without_remark
from keras_taps.reproduction.targets import TARGETS

_SHARES = {"natural": 100, "certified": 100, "taps": 100, "exact_robust_accuracy": 1}
VERDICTS = (
    "too close: within twice the standard error behind ±. one seed: beyond it, but whether other "
    "seeds agree is not known."
)


def trends(content):
    """What becomes of what the paper's numbers show in the results of a target.

    Args:
        content: What `reproduce` returns.

    Returns:
        List of dictionaries: `claim`; `eps`; `paper` and `ours`, the difference that should be
        positive, `None` where the paper gives no number, ours the mean over `seeds`; `noise`, its
        standard error from the number of test images, as if each row had images of its own, and
        from the spread between seeds; `holds`: 'yes' or 'no' where twice the noise leaves no
        doubt, 'one seed: yes' or 'one seed: no' where that is of one training of each of two
        networks, else 'too close'.
        Of claims without our numbers there is none.

    Example:

    >>> trends({"target": "table13", "records": []})
    []
    """
    target, found = TARGETS[content["target"]], []
    for eps in dict.fromkeys(record["eps"] for record in content["records"]):
        own = [record for record in content["records"] if record["eps"] == eps]
        ours = _figures({"records": own})
        by_seed = [
            _figures({"records": [record for record in own if record["seed"] == seed]})
            for seed in dict.fromkeys(record["seed"] for record in own)
        ]
        count = min(record.get("count", 0) for record in own)
        paper = {
            row_name(row.method, row.setting): reference(target, row.key)
            for row in target.rows
            if row.eps == eps
        }
        for claim in CLAIMS.get(target.name, ()):
            each = [difference(claim, figures) for figures in by_seed]
            each = [value for value in each if value is not None]
            if not each:
                continue
            spread = statistics.stdev(each) / math.sqrt(len(each)) if len(each) > 1 else 0.0
            noise = math.hypot(_noise_of_images(claim, ours, count), spread)
            mean = statistics.fmean(each)
            holds = _verdict(claim, mean, 2 * noise)
            if len(each) == 1 and claim.better != claim.worse and holds != "too close":
                holds = f"one seed: {holds}"
            found.append(
                {
                    "claim": claim.text,
                    "eps": eps,
                    "paper": difference(claim, paper),
                    "ours": mean,
                    "noise": noise,
                    "seeds": len(each),
                    "holds": holds,
                }
            )
    return found


def _figures(content):
    return {
        row_name(row["method"], row["setting"]): {
            quantity: mean for quantity, (mean, _) in row["figures"].items()
        }
        for row in summary(content)
    }


def row_name(method, setting):
    """What a `Claim` calls a row."""
    return without_remark(setting) or method


def difference(claim, figures):
    """The difference that a `Claim` says to be positive, or `None` if a side of it is not there.

    Args:
        claim: `Claim`.
        figures: Dictionary from names of rows to dictionaries of quantities.
    """
    better, worse = (figures.get(row, {}).get(quantity) for row, quantity in claim.sides)
    if better is None or worse is None:
        return None
    return worse - better if claim.against else better - worse


def _noise_of_images(claim, figures, count):
    """Standard error of a difference from the number of images; infinite without any."""
    if not count:
        return math.inf
    variance = 0.0
    for row, quantity in claim.sides:
        own = figures[row]
        if whole := _SHARES.get(quantity):
            share = (own[quantity] / whole * count + 1) / (count + 2)  # never 0 or 1
            variance += whole**2 * share * (1 - share)
        else:  # the variance of |error| from the moments of the error
            mean = own[quantity.replace("abs_error", "error")]
            std = own[quantity.replace("mean_abs", "std")]
            variance += max(std**2 + mean**2 - own[quantity] ** 2, 0.0)
    return math.sqrt(variance / count)


def _verdict(claim, value, doubt):
    if claim.close:
        sure = abs(value) + doubt < CLOSE, abs(value) - doubt > CLOSE
    else:
        sure = value - claim.by > doubt, claim.by - value > doubt
    return "yes" if sure[0] else "no" if sure[1] else "too close"


def trend_table(content):
    """The same as texts.

    Returns:
        `(head, rows)`: names of the columns, and lists of cells; no rows without claims.
    """
    rows = [
        [
            each["claim"],
            each["eps"],
            "-" if each["paper"] is None else f"{each['paper']:+.3g}",
            f"{each['ours']:+.3g} ± {each['noise']:.2g}",
            str(each["seeds"]),
            each["holds"],
        ]
        for each in trends(content)
    ]
    return ["in the paper's numbers", "eps", "paper", "ours", "seeds", "holds"], rows
