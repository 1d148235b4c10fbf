"""Open domains of branch and bound, in arrays that grow by doubling."""

import numpy as np


class Pool:
    """A set of records with the same fields; places that become free are used again.

    Args:
        fields: Dictionary from a name to `(shape, dtype)` of one record's value. There must be a
            `bound` and an `instance`.
        capacity: Places to begin with.

    Example:

    >>> pool = Pool({"bound": ((), "float32"), "instance": ((), "int32")}, capacity=2)
    >>> pool.add(bound=np.array([1.0, 3.0, 2.0]), instance=np.zeros(3))
    >>> pool.arrays["bound"][pool.best(2)].tolist()
    [3.0, 2.0]
    """

    def __init__(self, fields, capacity=1024):
        self.arrays = {
            name: np.zeros((capacity, *shape), dtype) for name, (shape, dtype) in fields.items()
        }
        self._used = np.zeros(capacity, bool)

    @classmethod
    def of_domains(cls, neurons, members, choices):
        """The pool of branch and bound, for so many neurons, forms of a group and choices."""
        return cls(
            {
                "bound": ((), "float64"),  # float32 would make 0 of bounds a little below it
                "instance": ((), "int32"),
                "group": ((), "int32"),
                "node": ((), "int32"),
                "slopes": ((neurons,), "uint8"),
                "betas": ((neurons,), "float32"),
                "mix": ((members,), "float32"),
                "choices": ((choices,), "int32"),
            }
        )

    def __len__(self):
        return int(self._used.sum())

    @property
    def bytes(self):
        """Bytes of a record."""
        return sum(array[0].nbytes for array in self.arrays.values())

    def add(self, **records):
        """Put records in, each field an array `(count, ...)`."""
        count = len(records["bound"])
        free = np.flatnonzero(~self._used)
        if len(free) < count:
            more = max(len(self._used), count)
            for name, array in self.arrays.items():
                self.arrays[name] = np.concatenate(
                    [array, np.zeros_like(array, shape=(more, *array.shape[1:]))]
                )
            self._used = np.concatenate([self._used, np.zeros(more, bool)])
            free = np.flatnonzero(~self._used)
        places = free[:count]
        for name, array in self.arrays.items():
            array[places] = records[name]
        self._used[places] = True

    def best(self, count):
        """Places of up to `count` records: of each instance in turn the one of largest bound."""
        places = np.flatnonzero(self._used)
        instance, bound = self.arrays["instance"][places], self.arrays["bound"][places]
        order = np.lexsort((-bound, instance))
        starts = np.r_[0, np.flatnonzero(np.diff(instance[order])) + 1]
        sizes = np.diff(np.r_[starts, len(order)])
        turn = np.arange(len(order)) - np.repeat(starts, sizes)
        return places[order[np.argsort(turn, kind="stable")[:count]]]

    def take(self, places):
        """Remove records; a dictionary of their fields."""
        self._used[places] = False
        return {name: array[places] for name, array in self.arrays.items()}

    def drop(self, instance):
        """Remove all records of an instance."""
        self._used &= self.arrays["instance"] != instance

    def counts(self):
        """Dictionary from each instance to the number of its records."""
        instances, counts = np.unique(self.arrays["instance"][self._used], return_counts=True)
        return dict(zip(instances.tolist(), counts.tolist(), strict=True))
