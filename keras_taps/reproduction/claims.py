"""What the paper's numbers show, each about the difference of two fixed rows."""

from dataclasses import dataclass

CLOSE = 1.0  # points within which two accuracies are nearly equal


@dataclass(frozen=True)
class Claim:
    """One row is better than another. The rows are fixed here, not chosen by our results.

    Args:
        text: What the paper's numbers show.
        better: Row, named by its setting without what stands in parentheses, or by its method.
        worse: Row likewise.
        quantity: What is compared, the larger the better.
        against: Quantity of `worse`, by default the same. If given, the less the better.
        close: Whether it is that both are nearly equal.
        by: By how much it is better at least.
    """

    text: str
    better: str
    worse: str
    quantity: str = "certified"
    against: str = ""
    close: bool = False
    by: float = 0.0

    @property
    def sides(self):
        """The two rows, each with its quantity."""
        return (self.better, self.quantity), (self.worse, self.against or self.quantity)


_ABSOLUTE = "{}: mean_abs_error"
_EXACT = "exact_robust_accuracy"
_ORDER = (("TAPS", "PGD"), ("SABR", "IBP"), ("TAPS", "SABR"), ("STAPS", "TAPS"))
_SPLIT = (
    Claim(
        "TAPS with 1 ReLU after the split certifies more than with none, which is IBP",
        "1 ReLUs",
        "0 ReLUs",
    ),
)
_APPROXIMATION = (
    *(
        Claim(f"Trained by {method}, TAPS is nearer to the exact margin than {bound}",
              method, method, _ABSOLUTE.format("TAPS"), _ABSOLUTE.format(bound))
        for method in ("IBP", "SABR", "TAPS")
        for bound in ("IBP", "SABR", "PGD")
    ),
    *(
        Claim(f"{one} trains to a higher exact robust accuracy than {other}",
              one, other, _EXACT)
        for one, other in _ORDER
    ),
)  # fmt: skip
CLAIMS = {
    "table1": (Claim("TAPS certifies more than IBP", "TAPS", "IBP"),),
    "table2": (
        Claim("w = 5 certifies more than IBP alone", "w=5", "IBP loss only"),
        Claim("w = 5 certifies more than w = 20", "w=5", "w=20"),
        Claim("w = 5 certifies more than w = inf", "w=5", "w=inf"),
        Claim("w = 5 certifies more than the TAPS loss alone", "w=5", "TAPS loss only"),
        Claim("w = 15 is more accurate than IBP alone", "w=15", "IBP loss only", "natural"),
    ),
    "table3": (
        Claim("After 1 ReLU the single estimator collapses: natural accuracy is 10 points lower",
              "1 ReLU, multi estimator", "1 ReLU, single estimator", "natural", by=10.0),
        *(
            Claim(f"After {split} the multi estimator certifies more",
                  f"{split}, multi estimator", f"{split}, single estimator")
            for split in ("3 ReLUs", "6 ReLUs")
        ),
    ),
    "table4": (
        Claim(f"One step certifies within {CLOSE:g} point of 20", "20 steps, 1 restart",
              "1 steps, 1 restart", close=True),
    ),
    "table11": _SPLIT,
    "table12": _SPLIT,
    "table14": (
        Claim("w = 10 certifies more than IBP alone", "w=10", "IBP loss only"),
        Claim("w = 10 certifies more than w = 20", "w=10", "w=20"),
    ),
    "figure8": tuple(
        Claim(f"TAPS accuracy is higher at c = 0.5 than at {c}", "c=0.5", f"c={c}", "taps")
        for c in (0, 1)
    ),
    "figure1": _APPROXIMATION,
    "figure1-at-0.05": _APPROXIMATION,
}  # fmt: skip
