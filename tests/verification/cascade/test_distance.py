"""Distance nets from Keras to a certificate: intervals and attacks decide, the rest says why."""

import keras
import numpy as np
import pytest

from keras_taps.networks import distance_net, sortnet_mlp
from keras_taps.verification import Unsafe, certify, read_network, recheck, verify, write_onnx
from keras_taps.verification.exact.milp import exact_bound
from tests.helpers import close, numpy

SHAPE = (4, 4, 1)
STAGES = "ibp,crown-ibp,crown,alpha-crown,bab,milp"


def network(make):
    keras.utils.set_random_seed(0)
    network = make(SHAPE, 3, width=12, depth=4, keep=0.7, mean=0.3, std=0.4)
    rng = np.random.default_rng(0)
    for layer in network.mean_shifts:
        layer.moving_mean.assign(rng.normal(2, 1, layer.units))
    x = rng.random((12, *SHAPE), dtype="float32")
    return network, x, numpy(network(x)).argmax(-1)


@pytest.mark.parametrize(("make", "eps"), [(distance_net, 0.02), (sortnet_mlp, 0.004)])
def test_certified_rechecked_or_left_open(make, eps, tmp_path):
    model, x, y = network(make)
    out = tmp_path / "report.jsonl"
    report = certify(model, x, y, eps, stages=STAGES, out=out, certificates=True)
    verdicts = [(record["verdict"], record["stage"]) for record in report.records]
    assert ("certified", "ibp") in verdicts
    assert {stage for _, stage in verdicts} <= {"ibp", None}
    assert all(record["checked"] for record in report.records if record["stage"] == "ibp")
    assert any(record["deployed"] for record in report.records)
    for record in report.records:
        if record["verdict"] == "unknown":
            assert record["error"] == "milp: no linear bounds of distance layers are known"
    found = recheck(out, read_network(model), x, y, eps)
    assert found.true
    assert not found.without
    assert found.accuracies()["certified"] == report.accuracies()["certified"]


@pytest.mark.once
def test_a_radius_that_nothing_proves():
    model, x, y = network(distance_net)
    report = certify(model, x, y, 0.06, stages=f"{STAGES},attack")
    assert {"unknown", "falsified"} <= {record["verdict"] for record in report.records}


@pytest.mark.once
def test_graphs_and_properties():
    model, x, y = network(distance_net)
    graph = read_network(model)
    close(graph(x), model(x), 1e-4)
    lower = np.clip(x[0].astype("float64") - 0.01, 0, 1)
    box = lower, lower + 0.01
    forms = np.eye(3)[(y[0] + 1) % 3] - np.eye(3)[y[0]]
    middle, radius = float(graph(lower[None])[0] @ forms), 2 * 0.01 / 0.4
    for threshold, expected in ((-1.1 * radius, "sat"), (1.1 * radius, "unsat")):
        unsafe = Unsafe(*box, forms[None], np.array([-middle - threshold]))
        assert verify(graph, [unsafe]).verdict == expected
    with pytest.raises(ValueError, match="cannot write a node of type Distance"):
        write_onnx(graph, "nowhere.onnx")
    with pytest.raises(ValueError, match="no mixed integer program is known for distance nodes"):
        exact_bound(graph, *box, forms, 0.0, [])
