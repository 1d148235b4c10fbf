"""When time is up: what every loop asks, and what it raises."""

import math
import time
from dataclasses import dataclass


class OutOfTime(Exception):
    """The deadline has passed; nothing was decided by what it interrupted."""


@dataclass(frozen=True)
class Deadline:
    """A moment after which work must stop.

    Args:
        moment: Seconds on the clock.
        clock: Function that returns the seconds now.

    Example:

    >>> Deadline.after(60).left > 59
    True
    """

    moment: float = math.inf
    clock: object = time.perf_counter

    @classmethod
    def after(cls, seconds, clock=time.perf_counter):
        """The deadline in so many seconds from now."""
        return cls(clock() + seconds, clock)

    @property
    def left(self):
        """Seconds until then, at least 0."""
        return max(self.moment - self.clock(), 0.0) if math.isfinite(self.moment) else math.inf

    def check(self):
        """Raise `OutOfTime` if the moment has passed."""
        if math.isfinite(self.moment) and self.clock() >= self.moment:
            raise OutOfTime


NEVER = Deadline()
