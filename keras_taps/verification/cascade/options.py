"""How a network is verified: what certification, one property and radii have in common."""

from dataclasses import dataclass, fields

from keras_taps.checks import check_choice, check_count, check_seed, did_you_mean
from keras_taps.choices import BRANCHINGS, MEMORY


@dataclass(frozen=True)
class Options:
    """Settings of the stages.

    Args:
        check: Whether 'certified' needs the float64 checker; without it verdicts rest on float32.
        batch_size: Inputs at a time.
        iterations: Steps of alpha-CROWN.
        branching: How branch and bound chooses neurons: 'kfsb', 'babsr', 'upb' or 'gap'.
        memory: Bytes for the open domains of branch and bound.
        seed: Whole number for the random starts of attacks.

    Raises:
        ValueError: If a value is out of range.

    Example:

    >>> Options(branching="gap").search["branching"]
    'gap'
    """

    check: bool = True
    batch_size: int = 32
    iterations: int = 20
    branching: str = "kfsb"
    memory: int = MEMORY
    seed: int = 0

    def __post_init__(self):
        check_count("batch_size", self.batch_size, low=1)
        check_count("iterations", self.iterations)
        check_choice("branching", self.branching, BRANCHINGS)
        check_count("memory", self.memory, low=1)
        check_seed(self.seed)

    @classmethod
    def of(cls, options):
        """`Options` from a dictionary of keyword arguments.

        Raises:
            TypeError: For an unknown name, with the nearest known one.
        """
        known = [field.name for field in fields(cls)]
        for name in options:
            if name not in known:
                raise TypeError(
                    f"There is no option `{name}`.{did_you_mean(name, known)} "
                    f"Accepted: {', '.join(known)}."
                )
        return cls(**options)

    @property
    def search(self):
        """The arguments of `BranchAndBound`, a dictionary."""
        names = ("check", "branching", "memory")
        return {name: getattr(self, name) for name in names}

    @property
    def about(self):
        """What a report says of them: those on which its verdicts may depend."""
        names = ("check", "iterations", "branching", "seed")
        return {name: getattr(self, name) for name in names}
