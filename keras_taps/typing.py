"""Names that annotations of this package use often; docstrings say shapes and ranges."""

import os
from collections.abc import Callable
from typing import Any, TypeAlias

Tensor: TypeAlias = Any  # of whichever backend runs, or Keras' symbolic one: no type has them all
Shape: TypeAlias = tuple[int | None, ...]
StrPath: TypeAlias = str | os.PathLike[str]
Progress: TypeAlias = Callable[[int, int], object]  # called as `progress(done, total)`
