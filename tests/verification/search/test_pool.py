"""The pool of open domains against a plain list."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keras_taps.verification.search.pool import Pool

FIELDS = {"bound": ((), "float64"), "instance": ((), "int32"), "data": ((2,), "int8")}


def records(rng, count):
    instances = rng.integers(0, 4, count)
    data = np.stack([instances, rng.integers(0, 9, count)], 1)
    return {"bound": rng.normal(size=count), "instance": instances, "data": data}


def listed(found):
    return list(zip(found["bound"], found["instance"], map(tuple, found["data"]), strict=True))


@given(st.integers(0, 10**6))
def test_against_a_list(seed):
    """Adding, taking and dropping lose and mix up nothing."""
    rng, pool, known = np.random.default_rng(seed), Pool(FIELDS, capacity=1), []
    for _ in range(12):
        action = rng.integers(3)
        if action == 0:
            new = records(rng, rng.integers(1, 9))
            pool.add(**new)
            known += listed(new)
        elif action == 1 and len(pool):
            found = pool.take(pool.best(rng.integers(1, 5)))
            for record in zip(
                found["bound"], found["instance"], map(tuple, found["data"]), strict=True
            ):
                known.remove(record)
        elif action == 2:
            instance = rng.integers(4)
            pool.drop(instance)
            known = [record for record in known if record[1] != instance]
        assert len(pool) == len(known)
        instances = [record[1] for record in known]
        assert pool.counts() == {instance: instances.count(instance) for instance in set(instances)}
    assert sorted(pool.arrays["bound"][pool.best(99)]) == sorted(record[0] for record in known)


def test_turns():
    """The largest bound of each instance comes before the second of any; infinite ones first."""
    pool = Pool(FIELDS)
    bounds = np.array([5.0, 4.0, np.inf, 1.0, 2.0, 9.0])
    pool.add(bound=bounds, instance=np.array([0, 0, 0, 1, 1, 2]), data=np.zeros((6, 2)))
    assert pool.arrays["bound"][pool.best(6)].tolist() == [np.inf, 2.0, 9.0, 5.0, 1.0, 4.0]
    assert pool.arrays["instance"][pool.best(3)].tolist() == [0, 1, 2]
    assert pool.bytes == 8 + 4 + 2


def test_empty():
    pool = Pool(FIELDS)
    assert len(pool) == 0
    assert not len(pool.best(3))
    assert pool.counts() == {}
    pool.drop(0)
