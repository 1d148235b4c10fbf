"""A target on digits that trains in a second, and what it might have measured."""

from keras_taps.experiments.recipes import recipe
from keras_taps.reproduction import Row, Scale, Target

SCALE = Scale(
    "tiny",
    "Nearly nothing.",
    epochs=0.001,
    network=("cnn3", 1),
    attack_steps=1,
    limit=64,
    images=6,
    timeout=2.0,
)
BASE = recipe("digits-0.1-taps", width=1, batch_size=32, anneal_epochs=0, decay_epochs=[])


def target(kind="accuracies", figure="", methods=("IBP", "TAPS"), **options):
    """A target with a row a method."""
    splits = {"IBP": "0 ReLUs", "TAPS": "1 ReLUs"} if kind == "splits" else {}
    rows = tuple(
        Row("digits", "0.1", m, splits.get(m, ""), BASE.changed(method=m.lower())) for m in methods
    )
    return Target("tiny", "Tiny", rows, kind=kind, figure=figure, **options)


def content(records, **options):
    """What `reproduce` returns, with these records and all that figures look at."""
    found = {"target": "table2", "title": "T", "scale": "tiny", "seeds": [0], "backend": "b"}
    return {**found, "quantities": ["natural"], "records": records, **options}


def record(setting="", method="TAPS", eps="0.3", dataset="mnist", seed=0, **measured):
    """A record of `content`."""
    key = {"dataset": dataset, "eps": eps, "method": method, "setting": setting}
    return {**key, "seed": seed, **measured}
