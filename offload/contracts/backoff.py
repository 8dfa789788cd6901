"""Exponential back-off: how long to wait before something that failed is tried again.

The three shapes and their names are those of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
(read 2026-11-30): `exponential` is the bound, and jitter keeps those that failed together from coming back together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeAlias, TypeVar

Uniform: TypeAlias = Callable[[float, float], float]
"""A random number between two others, as of `random.uniform`."""

_WaitT = TypeVar("_WaitT", float, timedelta)

# A million times `base`: beyond every cap, and well before a float or a timedelta overflows.
_MOST_DOUBLINGS: Final = 20


def exponential(attempt: int, *, base: _WaitT, cap: _WaitT) -> _WaitT:
    """The longest wait after attempt number `attempt`, from 1: `base`, twice that, and so on to `cap`.

    Where nothing was attempted yet, it is that of the first attempt.
    """
    return min(cap, base * (1 << min(max(attempt, 1) - 1, _MOST_DOUBLINGS)))


def full_jitter(attempt: int, *, base: float, cap: float, uniform: Uniform = random.uniform) -> float:
    """Any part of the exponential wait, in the unit of `base` and `cap`: spreads best those that compete."""
    return uniform(0, exponential(attempt, base=base, cap=cap))


def equal_jitter(attempt: int, *, base: float, cap: float, uniform: Uniform = random.uniform) -> float:
    """Half of the exponential wait and any part of the rest, in the unit of `base` and `cap`: never next to none."""
    longest = exponential(attempt, base=base, cap=cap)
    return uniform(longest / 2, longest)
