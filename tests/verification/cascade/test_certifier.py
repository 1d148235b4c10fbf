"""A network that is ready for many calls."""

import numpy as np
import pytest

import keras_taps as kt
from keras_taps import backend
from tests.verification.problems import COUNT, EPS, tiny

OPTIONS = {"batch_size": 4, "iterations": 3}


@pytest.fixture
def counted(monkeypatch):
    """Counts traces: on PyTorch, which compiles none, what would be compiled."""
    traces, made = [], backend.compiled

    def compiled(function, variables):
        def traced(*tensors):
            if backend.compiles():
                traces.append(function)
            return function(*tensors)

        if not backend.compiles():
            traces.append(function)
        return made(traced, variables)

    monkeypatch.setattr(backend, "compiled", compiled)
    return traces


def test_later_calls_compile_nothing_and_answer_as_certify(counted):
    network, x, y = tiny()
    certifier = kt.Certifier(network, **OPTIONS)
    first = certifier.certify(x, y, eps=EPS)
    before = len(counted)
    again = certifier.certify(x, y, eps=EPS)
    assert before
    assert len(counted) == before
    assert list(first.verdicts) == list(again.verdicts)
    assert len(first.records) == COUNT
    for eps, given in ((EPS, again), (EPS / 4, certifier.certify(x, y, eps=EPS / 4))):
        alone = kt.certify(network, x, y, eps, **OPTIONS)
        assert list(given.verdicts) == list(alone.verdicts)
        drop = ("provenance",)
        assert {k: v for k, v in given.header.items() if k not in drop} == {
            k: v for k, v in alone.header.items() if k not in drop
        }


def test_other_weights_are_refused():
    network, x, y = tiny()
    certifier = kt.Certifier(network, stages="ibp")
    network.trainable_variables[0].assign(network.trainable_variables[0] * 2)
    with pytest.raises(ValueError, match="weights of the network have changed"):
        certifier.certify(x, y, eps=EPS)


def test_arguments_are_checked_at_once():
    network, x, _ = tiny()
    with pytest.raises(ValueError, match="`stages`"):
        kt.Certifier(network, stages="guess")
    with pytest.raises(ValueError, match="`y`"):
        kt.Certifier(network, stages="ibp").certify(x, np.zeros(1, int), eps=EPS)
