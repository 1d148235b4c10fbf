"""Radii around many inputs: one for all of them, or one for each."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_taps.domain import UNIT, check_radius, radius_text


@dataclass(frozen=True, eq=False)
class Radii:
    """What `eps` says of each input of a set; `radii[i]` is the radius of input i.

    Args:
        shared: Radius of all inputs, a number or an array that broadcasts to one input; `None` if
            each has its own.
        rows: Then float64 array `(count, ...)` with as many axes as the inputs.

    Example:

    >>> radii = Radii.of([0.1, 0.2, 0.3], (8, 8, 1), 3)
    >>> radii[1], radii.differ, str(radii)
    (0.2, True, '0.1 to 0.3')
    """

    shared: Any = None
    rows: Any = None

    @classmethod
    def of(cls, value, shape, count, domain=UNIT, name="eps"):
        """`Radii` of what users write.

        An array with one axis more than an input has one entry for each input along its first axis,
        or one for all if that has length 1. An array `(count,)` is one number for each input. Every
        other one broadcasts to one input, and is the radius of all.

        Args:
            value: A number, text such as "2/255", or an array or list of numbers.
            shape: Shape of one input.
            count: Number of inputs.
            domain: `Domain` of the inputs.
            name: How messages call it.

        Raises:
            ValueError: If it is out of range, fits neither one input nor their number, or would
                fit both: `count` numbers for as many features.
        """
        radius = check_radius(name, value, domain)
        own, axes = np.shape(radius), len(shape) + 1
        one, listed = _broadcasts(own, shape), own == (count,) and count > 1
        if listed and one:
            column = (-1, *[1] * len(shape))
            raise ValueError(
                f"`{name}` could be one radius for each of the {count} inputs, or for each of "
                f"their {count} features or channels. Write {name}.reshape{column} for the first, "
                f"{name}[None] for the second. Received: an array of shape {own}"
            )
        if one:
            return cls(radius)
        if listed:
            return cls(rows=radius.reshape(-1, *[1] * len(shape)))
        inside = len(own) == axes and _broadcasts(own[1:], shape)
        if inside and own[0] == 1:
            return cls(radius[0])
        if inside and own[0] == count:
            return cls(rows=radius)
        raise ValueError(
            f"`{name}` must be a number, broadcast to one input, of shape {tuple(shape)}, or hold "
            f"one radius for each of {count} inputs, as an array of shape ({count},) or of {axes} "
            f"axes with {count} the first. Received: an array of shape {own}"
        )

    @property
    def differ(self) -> bool:
        """Whether each input has its own."""
        return self.rows is not None

    def __getitem__(self, index):
        if not self.differ:
            return self.shared
        row = self.rows[index]
        return row.item() if row.size == 1 else row

    def batch(self, chosen, shape):
        """Radii of the inputs with these indices, an array that broadcasts with a batch of them."""
        if self.differ:
            return self.rows[chosen]
        own = np.asarray(self.shared)
        own = own.reshape(1, *[1] * (len(shape) - own.ndim), *own.shape)
        return np.repeat(own, len(chosen), axis=0)

    def __str__(self):
        return radii_text([self.rows if self.differ else self.shared])


def _broadcasts(own, shape):
    """Whether an array of shape `own` broadcasts to one input; axes that are `None` take any."""
    return len(own) <= len(shape) and all(
        mine == 1 or want in (None, mine)
        for mine, want in zip(own[::-1], tuple(shape)[::-1], strict=False)
    )


def radii_of(report):
    """List of the radii that a report is about: the one of its header, or those of its records."""
    eps = report.header.get("eps")
    return [eps] if eps is not None else [r["eps"] for r in report.records if "eps" in r]


def radii_text(radii, digits=6):
    """Several radii in a message: "0.1", or "0.1 to 0.3"; "none" if there are none.

    Example:

    >>> radii_text([0.1, np.array([0.3, 0.2])])
    '0.1 to 0.3'
    """
    found = [np.ravel(radius) for radius in radii]
    return radius_text(np.concatenate(found), digits) if found else "none"
