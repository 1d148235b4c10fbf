"""The benchmark of the training step runs for eager PyTorch and for this session's backend."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import pytest

torch = pytest.importorskip("torch")
SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "training_step.py"
sys.path.insert(0, str(SCRIPT.parent))

from provenance import provenance  # noqa: E402
from step_configurations import GROUPS, parse  # noqa: E402
from step_products import count_calls, hidden_products  # noqa: E402
from training_step import is_measured  # noqa: E402

import keras_taps as kt  # noqa: E402


@pytest.mark.once
def test_quick_mode(tmp_path):
    output = tmp_path / "step.json"
    names = ["eager-torch", keras.backend.backend(), "products"]
    options = ["--implementations", *names, "--rounds", "1", "--steps", "2"]
    options += ["--configurations", GROUPS["quick"][1], "--libraries", "torch"]
    command = [sys.executable, str(SCRIPT), *options, "--output", str(output)]
    subprocess.run(command, check=True, timeout=300)
    (measurement,) = json.loads(output.read_text())["measurements"]
    assert measurement["configuration"]["name"] == GROUPS["quick"][1]
    assert [result["implementation"] for result in measurement["results"]] == names[:2]
    for result in measurement["results"]:
        assert 0 < result["minimum_s"] <= result["median_s"]
        assert 0 < result["baseline_mib"] <= result["peak_mib"]
        assert [len(turn) for turn in result["seconds"]] == [2]
    found = measurement["ceiling"]
    total = sum(product["calls"] * product["seconds"] for product in found["products"])
    assert 0 < found["seconds"] == pytest.approx(total)
    assert found["gflop"] > 0


@pytest.mark.parametrize("name", dict.fromkeys(name for names in GROUPS.values() for name in names))
def test_names_of_the_groups_are_configurations(name):
    configuration = parse(name)
    assert configuration.name == name
    assert bool(configuration.points) == (configuration.method in ("taps", "staps"))


def test_parts_of_a_name():
    configuration = parse("cnn7-64-tinyimagenet-staps3-s20-b8-c100-estimators=4-search_dtype=half")
    assert (configuration.classifier_relus, configuration.attack_steps) == (3, 20)
    assert (configuration.batch, configuration.classes, configuration.points) == (8, 100, 4)
    assert configuration.options == {"estimators": 4, "search_dtype": "half"}
    assert parse("cnn3-2-mnist-taps1-s8").points == 9


@pytest.mark.parametrize(
    "name",
    ["cnn7-16-mnist", "cnn7-16-mnist-taps3", "cnn7-16-mnist-ibp-s8", "cnn9-2-mnist-ibp", "", "a-b"],
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="No configuration"):
        parse(name)


@pytest.mark.parametrize("name", ["cnn3-2-cifar", "cnn7-2-mnist", "cnn7-2-tinyimagenet"])
def test_products_have_the_shapes_of_the_network(name):
    configuration = parse(f"{name}-ibp")
    build = getattr(kt.networks, configuration.network)
    network = build(
        configuration.image_shape,
        configuration.classes,
        width=configuration.width,
        **configuration.network_options,
    )
    products, normalised = hidden_products(configuration)
    assert normalised == bool(network.batch_norms)
    kernels = [tuple(layer.kernel.shape) for layer in network.affine_layers[:-1]]
    assert [(*p.weights[2:], *p.weights[1::-1]) for p in products] == kernels


def test_calls_of_a_step():
    # CNN3 with 2 filters: 5x5 from 1 to 2 channels on 14x14, 4x4 from 2 to 4 channels on 7x7.
    first, second = 2 * 8 * 14**2 * 2 * 25, 2 * 8 * 7**2 * 4 * 2 * 16
    products, _ = hidden_products(parse("cnn3-2-mnist-ibp-b8"))
    assert [8 * product.flop for product in products] == [first, second]

    def flop(name):
        calls = count_calls(parse(name))
        return sum(product.flop * number for (product, _), number in calls.items())

    # Clean images forward; centre and radius forward, weights, and inputs of the second.
    ibp = 5 * first + 7 * second
    assert flop("cnn3-2-mnist-ibp-b8") == ibp
    attack = (11 + 10) * (first + second)
    assert flop("cnn3-2-mnist-sabr-b8") == ibp + attack
    latent = 9 * second * (8 + 1 + 8 + 3)
    assert flop("cnn3-2-mnist-taps1-s8-b8") == ibp + latent
    assert flop("cnn3-2-mnist-staps1-s8-b8") == ibp + attack + latent
    assert flop("cnn3-2-mnist-taps1-s8-b8-estimators=3") == ibp + latent / 3


def test_only_the_same_measurement_is_skipped():
    origin = {**provenance(), "commit": "a", "package_modified": False}
    old = {"configuration": {"name": "x"}, "settings": {"rounds": 3}, "provenance": origin}
    assert is_measured([old], "x", {"rounds": 3}, origin)
    assert not is_measured([old], "y", {"rounds": 3}, origin)
    assert not is_measured([old], "x", {"rounds": 2}, origin)
    assert not is_measured([old], "x", {"rounds": 3}, {**origin, "commit": "b"})
    assert not is_measured([old], "x", {"rounds": 3}, {**origin, "package_modified": True})
