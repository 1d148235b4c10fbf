"""A stored network is read whole or refused: each number and array of it, changed alone."""

import copy

import numpy as np
import pytest

from keras_taps.verification.graph import storage
from keras_taps.verification.graph.batch_norm import BatchNorm
from keras_taps.verification.graph.distance import Distance
from keras_taps.verification.graph.nodes import Conv, Dense, MaxPool, Relu, Reshape, Scale

pytestmark = pytest.mark.once
ONE, NOTHING = np.ones(1), np.zeros(1)
NODES = (
    Conv(np.ones((2, 2, 1, 1)), NOTHING, (3, 3, 1)),
    MaxPool((2, 2, 1), (2, 2), (1, 1), ((0, 0), (0, 0))),
    Reshape((1, 1, 1), (1,)),
    Relu((1,), 0.5),
    Scale(ONE, NOTHING, (1,)),
    BatchNorm(ONE, NOTHING, NOTHING, NOTHING, 1e-3, (1,)),  # a variance of 0 is one
    Distance(np.ones((1, 1)), NOTHING, ONE),
    Dense(np.ones((1, 2)), np.zeros(2)),
)
STRUCTURE, ARRAYS = storage.pack(NODES)
WHOLE = ("in_shape", "out_shape", "strides", "dilation", "size", "padding", "groups")
PLACES = [(number, name) for number, node in enumerate(STRUCTURE) for name in node if name in WHOLE]


def test_packed_and_back():
    structure, arrays = storage.pack(storage.unpack(STRUCTURE, ARRAYS))
    assert structure == STRUCTURE
    assert all(np.array_equal(a, b) for a, b in zip(arrays, ARRAYS, strict=True))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", range(len(ARRAYS)))
def test_numbers_that_are_not_finite(at, value):
    arrays = [array.copy() for array in ARRAYS]
    arrays[at].reshape(-1)[-1] = value
    with pytest.raises(ValueError, match="does not fit"):
        storage.unpack(STRUCTURE, arrays)


@pytest.mark.parametrize("value", [-1, 1.0, True, 2**62, "1", None])
@pytest.mark.parametrize(("number", "name"), PLACES)
def test_whole_numbers_that_are_none(number, name, value):
    structure = copy.deepcopy(STRUCTURE)
    within = structure[number]
    if isinstance(within[name], list):
        within, name = within[name], 0
    if isinstance(within[name], list):
        within, name = within[name], 0
    within[name] = value
    with pytest.raises(ValueError, match=r".+"):
        storage.unpack(structure, ARRAYS)


def test_what_is_no_chain():
    for structure in (None, 1, [], [None], [{}], [{"kind": "Dense"}], [{"kind": "Other"}]):
        with pytest.raises(ValueError, match=r".+"):
            storage.unpack(structure, ARRAYS)
    with pytest.raises(ValueError, match="used once each"):
        storage.unpack(STRUCTURE, [*ARRAYS, ONE])
    with pytest.raises(ValueError, match="outputs have the shape"):
        storage.unpack(STRUCTURE[:1], ARRAYS[:2])


@pytest.mark.parametrize(
    ("variance", "epsilon", "gamma"),
    [
        (0.0, 0.0, 1.0),
        (-1.0, 2.0, 1.0),
        (1.0, -1e-3, 1.0),
        (1.5e308, 1e308, 1e154),  # its factor is 0.6, and float64 finds 0
        (1e60, 0.0, 1e-300),  # the same of 1e-330, which weights after it may make large
        (2.0, 0.0, 3e-322),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_variances_without_a_root_that_float64_has(variance, epsilon, gamma):
    structure, arrays = copy.deepcopy(STRUCTURE), [array.copy() for array in ARRAYS]
    structure[5]["epsilon"] = epsilon
    arrays[structure[5]["variance"]["array"]][:] = variance
    arrays[structure[5]["gamma"]["array"]][:] = gamma
    with pytest.raises(ValueError, match="does not fit"):
        storage.unpack(structure, arrays)
    arrays[structure[5]["gamma"]["array"]][:] = 0
    arrays[structure[5]["variance"]["array"]][:] = 1e200
    structure[5]["epsilon"] = 1.0
    assert storage.unpack(structure, arrays)


@pytest.mark.parametrize(
    ("number", "name", "value"),
    [(7, "bias", 0.5), (7, "bias", [0.0, 0.0]), (7, "bias", 10**30), (3, "slope", {"array": 0})],
)
def test_numbers_in_place_of_arrays_and_arrays_in_place_of_numbers(number, name, value):
    structure = copy.deepcopy(STRUCTURE)
    structure[number][name] = value
    with pytest.raises(ValueError, match=f"`{name}` of a"):
        storage.unpack(structure, ARRAYS)
