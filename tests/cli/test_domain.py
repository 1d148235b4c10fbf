"""Features of any scale on the command line: training, attack, certificate, recheck and tuning."""

import json

import numpy as np
import pytest

from keras_taps.networks.load import load_model
from keras_taps.verification.certificate.report import Report
from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """An `.npz` file of two classes of rows with three features, within [-4, 4]."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    x = np.clip(rng.normal(size=(120, 3)) + 3.0 * (2 * y - 1)[:, None] * [1, 1, 0], -4, 4)
    path = tmp_path_factory.mktemp("features") / "rows.npz"
    np.savez(path, x_train=x[:80], y_train=y[:80], x_test=x[80:], y_test=y[80:])
    return path


def train(capsys, features, *options):
    recipe = features.with_suffix(".yaml")
    recipe.write_text(
        f"dataset: {features}\nmethod: taps\nnetwork: mlp\nwidth: 8\neps: [0.2, 0.1, 0.4]\n"
        "epochs: 6\nanneal_epochs: 3\nbatch_size: 8\nlearning_rate: 0.01\ndecay_epochs: []\n"
    )
    return call(capsys, "train", recipe, "--out", features.parent / "run", *options)


def test_from_the_recipe_to_the_receiver(capsys, features, tmp_path):
    code, out, err = train(capsys, features)
    assert code == 2
    assert "`x_train` must hold values in [0, 1]" in " ".join((out + err).split())
    code, out, err = train(capsys, features, "--domain", "-4,4", "--dry-run", "--json")
    assert code == 0, err
    assert json.loads(out)["recipe"]["domain"] == [-4, 4]
    code, out, err = train(capsys, features, "--domain", "-4,4")
    assert code == 0, err
    assert "eps 0.1 to 0.4" in out
    run = features.parent / "run"
    model = load_model(run)
    assert model.domain.to_config() == [-4, 4]
    np.testing.assert_array_equal(model.eps, [0.2, 0.1, 0.4])

    code, out, err = call(capsys, "attack", run, "--steps", 2, "--restarts", 1, "--json")
    assert code == 0, err
    attacked = json.loads(out)
    assert (attacked["eps"], attacked["domain"]) == ([0.2, 0.1, 0.4], [-4, 4])
    code, out, err = call(capsys, "certify", run, "--stages", "ibp,crown", "--certificates")
    assert code == 0, err
    assert "eps 0.1 to 0.4, inputs in [-4, 4]" in out
    report = run / "certification-0.1-to-0.4.jsonl"
    shares = Report.load(report).accuracies()
    assert 0.5 < shares["certified"] <= attacked["adversarial_accuracy"]

    check = ("recheck", report, "--model", run, "--dataset", features, "--partial")
    code, out, err = call(capsys, *check, "--domain", "-4,4", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["compared"] == ["network", "images", "labels", "domain"]
    assert found["domain"] == [-4, 4]
    assert "Not compared with yours: eps (--eps)" in call(capsys, *check, "--domain", "-4, 4")[1]
    refused(capsys, "The report is about inputs in [-4, 4]", *check, "--domain", "none")
    refused(capsys, "The report is about eps [0.2, 0.1, 0.4]", *check, "--eps", "0.2")

    free = ("certify", run, "--stages", "ibp", "--eps", "0.1", "--domain", "none", "--json")
    code, out, err = call(capsys, *free, "--out", tmp_path / "free.jsonl")
    assert code == 0, err
    assert json.loads(out)["header"]["domain"] == [None, None]
    refused(capsys, "must be a number in [0, 8]", "certify", run, "--eps", "9")
    refused(capsys, "values in [-1, 1]. Received", "certify", run, "--domain", "-1,1")
    code, out, err = call(capsys, "evaluate", run, "--json")
    assert code == 0, err
    assert json.loads(out)["eps"] == [0.2, 0.1, 0.4]
    export = ("export", run, "--onnx", tmp_path / "net.onnx", "--index", "0", "--json")
    code, out, err = call(capsys, *export)
    assert code == 0, err
    assert len(json.loads(out)["vnnlib"]) == 1
    code, out, err = call(capsys, "certify", run, "--radius", "--stages", "ibp", "--json")
    assert code == 0, err
    assert json.loads(out)["high"] == 0.5


def test_tuning_stays_in_the_domain(capsys, features, tmp_path):
    train(capsys, features, "--dry-run", "--domain", "-4,4")
    command = ("tune", features.with_suffix(".yaml"), "--set", "domain=[-4, 4]", "--epochs", 2)
    options = ("--search", "classifier_relus=2", "--trials", 1, "--out", tmp_path / "study")
    code, out, err = call(capsys, *command, *options, "--stages", "ibp", "--json")
    assert code == 0, out + err
