"""Does what the paper's numbers show hold in ours?"""

import math
import statistics

import numpy as np

from keras_taps.reproduction.claims import CLAIMS, CLOSE
from keras_taps.reproduction.results import means, reference, summary, unpacked, without_remark
from keras_taps.reproduction.targets import TARGETS

_SHARES = ("natural", "certified", "taps", "exact_robust_accuracy")
_STUDENT = {2: 12.7, 3: 4.3, 4: 3.2, 5: 2.8}  # 97.5 % quantiles by the number of seeds; then less
VERDICTS = (
    "± leaves a doubt of about 5 %: over the test images and, of several seeds, over others. in "
    "doubt: the limit, 0 or what the claim names, lies within. one seed: so it is here; whether "
    "other seeds agree is not known."
)


def trends(content):
    """What becomes of what the paper's numbers show in the results of a target.

    Args:
        content: What `reproduce` returns.

    Returns:
        List of dictionaries: `claim`; `eps`; `paper` and `ours`, the difference that the claim is
        about, `None` where the paper gives no number, ours the mean over the `seeds` that both rows
        have; `doubt`, about 95 % of it within: twice its standard error from the number of test
        images, image by image where records keep which of them `held`, else as if each row had
        images of its own, and Student's interval from the spread between seeds; `holds`: 'yes',
        'no', or 'in doubt', with 'one seed: ' before it where there is one.
        Of claims without our numbers there is none.

    Example:

    >>> trends({"target": "table13", "records": []})
    []
    """
    target, found = TARGETS[content["target"]], []
    for eps in dict.fromkeys(record["eps"] for record in content["records"]):
        own = [record for record in content["records"] if record["eps"] == eps]
        by_seed = [
            _figures([record for record in own if record["seed"] == seed])
            for seed in dict.fromkeys(record["seed"] for record in own)
        ]
        count = min(record.get("count", 0) for record in own)
        paper = {
            row_name(row.method, row.setting): reference(target, row.key)
            for row in target.rows
            if row.eps == eps
        }
        for claim in CLAIMS.get(target.name, ()):
            shared = [each for each in by_seed if difference(claim, each) is not None]
            if not shared:
                continue
            mean, doubt = _mean_and_doubt(claim, shared, count)
            found.append(
                {
                    "claim": claim.text,
                    "eps": eps,
                    "paper": difference(claim, paper),
                    "ours": mean,
                    "doubt": doubt,
                    "seeds": len(shared),
                    "holds": _verdict(claim, mean, doubt, len(shared)),
                }
            )
    return found


def _figures(records):
    """Dictionary from rows to their figures and which images `held`, from records of one seed."""
    rows = summary({"records": records})
    return {
        row_name(row["method"], row["setting"]): {**means(row), "held": record.get("held", {})}
        for row, record in zip(rows, records, strict=True)
    }


def _mean_and_doubt(claim, by_seed, count):
    each = [difference(claim, figures) for figures in by_seed]
    mean, spread = statistics.fmean(each), 0.0
    if len(each) > 1:
        spread = _STUDENT.get(len(each), 2.6) * statistics.stdev(each) / math.sqrt(len(each))
    if not count:
        return mean, math.inf
    variance = statistics.fmean(_variance(claim, figures, count) for figures in by_seed)
    return mean, math.hypot(2 * math.sqrt(variance / count), spread)


def _variance(claim, figures, count):
    """Variance of a difference over `count` images."""
    held = [figures[row]["held"].get(quantity) for row, quantity in claim.sides]
    if all(held):  # of the same images: where both rows agree, nothing varies
        one, other = (unpacked(text, count) for text in held)
        apart = (np.sum(one != other) + 1) / (count + 2)  # never 0 or 1
        gap = (np.sum(one) - np.sum(other)) / (count + 2)
        return 100**2 * (apart - gap**2)
    variance = 0.0
    for row, quantity in claim.sides:
        own = figures[row]
        if quantity in _SHARES:
            share = (own[quantity] / 100 * count + 1) / (count + 2)  # never 0 or 1
            variance += 100**2 * share * (1 - share)
        else:  # the variance of |error| from the moments of the error
            mean = own[quantity.replace("abs_error", "error")]
            std = own[quantity.replace("mean_abs", "std")]
            variance += max(std**2 + mean**2 - own[quantity] ** 2, 0.0)
    return variance


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


def _verdict(claim, value, doubt, seeds):
    if claim.close:
        sure = abs(value) + doubt < CLOSE, abs(value) - doubt > CLOSE
    else:
        sure = value - claim.by > doubt, claim.by - value > doubt
    if not any(sure):
        return "in doubt"
    return "one seed: " * (seeds == 1) + ("yes" if sure[0] else "no")


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
            f"{each['ours']:+.3g} ± {each['doubt']:.2g}",
            str(each["seeds"]),
            each["holds"],
        ]
        for each in trends(content)
    ]
    return ["in the paper's numbers", "eps", "paper", "ours", "seeds", "holds"], rows
