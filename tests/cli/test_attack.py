"""`keras-taps attack`: accuracies, adversarial images, refusals."""

import json

import numpy as np
import pytest

from tests.cli.helpers import call, refused

pytestmark = pytest.mark.once

QUICK = ("--dataset", "digits", "--limit", 8, "--steps", 2, "--restarts", 1)


def test_accuracies_and_images(capsys, stock, tmp_path):
    out = tmp_path / "new" / "images.npz"
    command = ("attack", stock, *QUICK, "--eps", "20/255", "--out", out, "--json")
    code, printed, err = call(capsys, *command)
    assert code == 0, err
    found = json.loads(printed)
    assert 0 <= found["adversarial_accuracy"] <= found["natural_accuracy"] <= 1
    assert found["attack"]["steps"] == 2
    with np.load(out) as content:
        assert content["adversarial"].shape == (8, 8, 8, 1)
        assert content["robust"].mean() == found["adversarial_accuracy"]
        assert content["eps"] == 20 / 255


def test_the_suite_tells_what_broke_each_image(capsys, stock):
    code, printed, err = call(capsys, "attack", stock, *QUICK, "--eps", 0.3, "--suite")
    assert code == 0, err
    assert "adversarial 0.00%" in printed
    assert "pgd-cross-entropy" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--eps", "0.1,0.2"), "one radius"),
        (("--eps", "0.1", "--suite", "--targeted"), "--suite brings its own"),
        (("--eps", "0.1", "--out", "x.npy"), "must end in .npz"),
        (("--eps", "0.1", "--dataset", "digits", "--objective", "loss"), "`objective`"),
        (("--eps", "0.1", "--dataset", "digits", "--steps", "-1"), "`steps`"),
    ],
)
def test_bad_input(capsys, stock, arguments, message):
    refused(capsys, message, "attack", stock, *arguments)


def test_softmax_is_taken_off(capsys, softmax):
    with pytest.warns(UserWarning, match="softmax"):
        code, *_ = call(capsys, "attack", softmax, *QUICK, "--eps", 0.1)
    assert code == 0
