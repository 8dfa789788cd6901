"""How long what failed waits."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from offload.contracts.backoff import equal_jitter, exponential, full_jitter


def test_the_wait_doubles_from_the_base_to_the_cap() -> None:
    assert [exponential(attempt, base=0.1, cap=0.5) for attempt in range(6)] == [0.1, 0.1, 0.2, 0.4, 0.5, 0.5]


def test_full_jitter_takes_any_part_of_the_wait_and_equal_jitter_the_upper_half() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    assert full_jitter(3, base=1, cap=60, uniform=uniform) == 4
    assert equal_jitter(3, base=1, cap=60, uniform=uniform) == 4
    assert asked == [(0, 4), (2, 4)]


@given(attempt=st.integers(1, 10**6))
def test_no_number_of_attempts_overflows_or_leaves_the_bounds(attempt: int) -> None:
    year = timedelta(days=365)
    assert year <= exponential(attempt, base=year, cap=2 * year) <= 2 * year
    assert 0 <= full_jitter(attempt, base=0.01, cap=0.2) <= 0.2
    assert 0.005 <= equal_jitter(attempt, base=0.01, cap=0.2) <= 0.2
