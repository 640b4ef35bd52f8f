"""What the readers of the different files have in common."""

import dataclasses
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor in an open file, read when it is asked for, so that memory holds one at a time.

    Attributes:
        shape: Its shape.
        read: Returns its values.
    """

    shape: tuple[int, ...]
    read: Callable[[], np.ndarray]
