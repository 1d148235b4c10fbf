"""What can be reproduced: every target with its rows, each a recipe at the scale of the paper."""

from dataclasses import dataclass

from keras_taps.experiments.recipe import Recipe
from keras_taps.experiments.recipes import RECIPES, recipe
from keras_taps.reproduction.published import published

INF = float("inf")
ACCURACIES = ("natural", "adversarial", "certified")
_SETTINGS = (
    ("mnist", "0.1"),
    ("mnist", "0.3"),
    ("cifar10", "2/255"),
    ("cifar10", "8/255"),
    ("tiny_imagenet", "1/255"),
)
_REPEATED = (  # Table 15
    ("mnist", "0.1", "TAPS"),
    ("mnist", "0.3", "TAPS"),
    ("cifar10", "2/255", "STAPS"),
    ("cifar10", "8/255", "TAPS"),
)


_ALPHAS = (0.1, 0.3)  # of Exp-IBP on MNIST


@dataclass(frozen=True)
class Row:
    """One trained network of a target.

    Args:
        dataset: Name of its data set.
        eps: Radius, as the paper writes it.
        method: Name of the method, as the paper writes it.
        setting: What sets it apart in the target.
        recipe: `Recipe` at the scale of the paper.
    """

    dataset: str
    eps: str
    method: str
    setting: str
    recipe: Recipe

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What names a row in the paper's tables."""
        return self.dataset, self.eps, self.method, self.setting


@dataclass(frozen=True)
class Target:
    """A table or figure.

    Args:
        name: Name for the command line.
        title: What it shows.
        rows: Tuple of `Row`.
        kind: What is measured of each row, a key of `measures.MEASURES`.
        quantities: What a table shows of it.
        table: Number of the table of the paper with its numbers, "" if there is none.
        seeds: Seeds of each row, by default one.
        figure: Name of a function of `figures` that draws it, "" for none.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    kind: str = "accuracies"
    quantities: tuple[str, ...] = ACCURACIES
    table: str = ""
    seeds: tuple[int, ...] = (0,)
    figure: str = ""

    @property
    def published(self) -> dict[tuple[str, str, str, str], dict[str, float]]:
        """The paper's numbers, as `published`."""
        return published(self.table)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the data sets that it needs."""
        return tuple(dict.fromkeys(row.dataset for row in self.rows))


def _row(dataset, eps, method, setting="", **changes):
    chosen = recipe(f"{dataset}-{eps}-{method.lower()}", **changes)
    return Row(dataset, eps, method, setting, chosen)


def _weight(w):
    # The authors' gradient is `w : 1`; at infinity there is one alone, of whatever length.
    return {"w_taps": w, "gradient_scale": (w + 1) / 2 if w < INF else 1.0}


def _weights(dataset, eps, weights, infinite=""):
    """Rows of Tables 2 and 14: IBP alone, the weights, and what lies beyond them."""
    yield Row(dataset, eps, "TAPS", "IBP loss only", recipe(f"{dataset}-{eps}-ibp"))
    for w in weights:
        yield _row(dataset, eps, "TAPS", f"w={w:g}{infinite if w == INF else ''}", **_weight(w))
    if infinite:
        setting = f"TAPS loss only{infinite}"
        yield _row(dataset, eps, "TAPS", setting, objective="taps", gradient_scale=1.0)


def _splits(dataset, radii, splits=range(7)):
    return tuple(
        _row(dataset, eps, "TAPS", f"{split} ReLUs", classifier_relus=split)
        for eps in radii
        for split in splits
    )


def _estimators():
    """Rows of Table 3."""
    for relus in (1, 3, 6):
        for estimator in ("multi", "single"):
            fails = " (training collapses)" if (relus, estimator) == (1, "single") else ""
            setting = f"{relus} ReLU{'s' * (relus > 1)}, {estimator} estimator{fails}"
            yield _row("mnist", "0.3", "TAPS", setting, classifier_relus=relus, estimator=estimator)


def _attacks():
    """Rows of Table 4."""
    for steps in (1, 5, 20, 100):
        for restarts in (1, 3):
            setting = f"{steps} steps, {restarts} restart{'s' * (restarts > 1)}"
            options = {"attack_steps": steps, "attack_restarts": restarts}
            yield _row("mnist", "0.3", "TAPS", setting, **options)


def _sizes():
    """Rows of Table 13."""
    for method in ("TAPS", "STAPS"):
        for relus in (1, 2):
            setting = f"{relus} ReLUs"
            yield _row("tiny_imagenet", "1/255", method, setting, classifier_relus=relus)


def _connectors(dataset="mnist"):
    for eps in ("0.1", "0.3"):
        for c in (0.0, 0.25, 0.5, 0.75, 1.0):
            yield _row(dataset, eps, "TAPS", f"c={c:g}", c=c)


def _approximated(train_eps):
    """The networks of Figures 1, 5, 6 and 9: CNN3 with one filter, tested at 0.05."""
    latent = {"classifier_relus": 1, "w_taps": 5.0, "gradient_scale": 3.0}
    small = {"tau_ratio": 0.4}
    own = {"PGD": {}, "IBP": {}, "SABR": small, "TAPS": latent, "STAPS": latent | small}
    source = "Mao et al. 2023, section 4.2; CNN3 with one filter as in the authors' code"
    for method, changes in own.items():
        base = Recipe(
            f"mnist-0.05-cnn3-{method.lower()}", source, "mnist", method.lower(), 0.05, train_eps,
            network="cnn3", width=1, epochs=70, anneal_epochs=20, decay_epochs=(50, 60),
        )  # fmt: skip
        yield Row("mnist", "0.05", method, "", base.changed(**changes))


def _approximations(end, text, train_eps):
    """The two targets about these networks, with what their names and titles end in."""
    rows = tuple(_approximated(train_eps))
    yield Target(
        f"figure1{end}", f"Errors of the worst-case margin by training and bounding method{text}",
        rows, kind="approximation", figure="approximation", quantities=(),
    )  # fmt: skip
    yield Target(
        f"figure6{end}", f"What the latent attack takes from the bound of the classifier{text}",
        rows[1:], kind="approximation", figure="differences", quantities=(),
    )  # fmt: skip


def _successors():
    for dataset, eps in _SETTINGS:
        for method in ("TAPS", "CC-IBP", "MTL-IBP", "Exp-IBP"):
            if f"{dataset}-{eps}-{method.lower()}" in RECIPES:
                yield _row(dataset, eps, method)
            else:  # nobody has published its weight
                for alpha in _ALPHAS:
                    own = recipe(f"{dataset}-{eps}-cc-ibp", method="exp-ibp", alpha=alpha)
                    name = f"{dataset}-{eps}-exp-ibp"
                    own = own.changed(name=name, source="this package")
                    yield Row(dataset, eps, method, f"alpha={alpha:g}, our choice", own)


_PART = " (part of the test set)"
_MAIN = tuple(_row(*each, m) for each in _SETTINGS for m in ("IBP", "SABR", "TAPS", "STAPS"))
_TABLE_2 = tuple(_weights("mnist", "0.3", (0, 1, 5, 10, 15, 20, INF), _PART))
_TABLE_14 = tuple(_weights("tiny_imagenet", "1/255", (1, 5, 10, 20)))
_TABLE_3, _TABLE_4 = tuple(_estimators()), tuple(_attacks())
_TABLE_11, _TABLE_12 = _splits("mnist", ("0.1", "0.3")), _splits("cifar10", ("2/255", "8/255"))
_BY_STAGE = (*ACCURACIES, "certified_ibp")
_TIMED = (*_BY_STAGE, "mean_certify_seconds")

TARGETS = {
    target.name: target
    for target in (
        Target(
            "table1", "Natural and certified accuracy", _MAIN, table="1",
            quantities=("natural", "certified"),
        ),
        Target(
            "table2", "IBP regularisation and the weight of the TAPS gradient", _TABLE_2,
            table="2", quantities=_TIMED, figure="weights",
        ),
        Target(
            "table3", "Single and multi estimator by split", _TABLE_3, table="3",
            quantities=("natural", "certified"),
        ),
        Target(
            "table4", "Strength of the latent attack", _TABLE_4, table="4",
            quantities=("natural", "certified"),
        ),
        Target(
            "table10", "TAPS accuracy against adversarial and certified accuracy",
            (*_TABLE_2, *_TABLE_3, *_TABLE_4, *_TABLE_11, *_TABLE_12), kind="goodness",
            quantities=("taps", "adversarial", "certified"), table="10", figure="goodness",
        ),
        Target(
            "table11", "Split location, MNIST", _TABLE_11, table="11", quantities=_BY_STAGE,
            figure="splits",
        ),
        Target(
            "table12", "Split location, CIFAR-10", _TABLE_12, table="12", quantities=_BY_STAGE,
            figure="splits",
        ),
        Target(
            "table13", "Split location and cost, TinyImageNet", tuple(_sizes()), table="13",
            quantities=(*ACCURACIES, "train_seconds", "certify_seconds"),
        ),
        Target(
            "table14", "Weight of the TAPS gradient, TinyImageNet", _TABLE_14, table="14",
            quantities=_TIMED, figure="weights",
        ),
        Target(
            "table15", "Three repeats", tuple(
                _row(*which, "3 repeats") for which in _REPEATED
            ), table="15", seeds=(0, 1, 2),
        ),
        *_approximations("", "", 0.1),
        *_approximations("-at-0.05", ", networks trained at 0.05", 0.05),
        Target(
            "figure7", "Split location, CIFAR-10 (Table 12, drawn)", _TABLE_12, table="12",
            quantities=_BY_STAGE, figure="splits",
        ),
        Target(
            "figure8", "The gradient connector", tuple(_connectors()), kind="estimates",
            quantities=("taps", "natural"), figure="connector",
        ),
        Target(
            "figure10", "TAPS accuracy by split in training and test, CIFAR-10", _TABLE_12,
            kind="splits", quantities=(), figure="split_matrix",
        ),
        Target(
            "figure11", "TAPS accuracy by split in training and test, MNIST", _TABLE_11,
            kind="splits", quantities=(), figure="split_matrix",
        ),
        Target(
            "successors", "The successors of TAPS beside it", tuple(_successors()),
            table="successors", quantities=("natural", "adversarial", "certified"),
        ),
    )
}  # fmt: skip
# Other names of the same figure in the paper.
ALIASES = {"figure5": "figure1", "figure9": "figure1"}
