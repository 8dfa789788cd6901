"""How an endpoint fares, and what follows: parked for a moment, warned of, paused, recovered. All of it pure.

Two things are told apart. A *parked* endpoint has just failed several times in a row: it is left alone for a moment, so
that what is owed to it costs nothing and holds nobody up, and one attempt then says whether it is back. A *paused* one
has failed for days, by rate and by time: its owner is told on the way there, and it is probed until it heals.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from offload.contracts.backoff import exponential

WARNINGS: Final = (50, 70, 90)
"""Percent of the way to the pause at which a warning goes out."""

# Of one attempt in the failure rate: the last ten decide nine tenths of it.
_WEIGHT: Final = 0.2
_FAILING: Final = 0.9
_HEALTHY: Final = 0.5

# In a row, before an endpoint is parked.
_TRIES_BEFORE_PARKING: Final = 5
_FIRST_PARKING: Final = timedelta(seconds=30)
_LONGEST_PARKING: Final = timedelta(minutes=10)

LARGEST_WINDOW: Final = 24
"""How many deliveries go to one endpoint at once: what one transaction can record."""
# Slower than this, and an endpoint is sent to from the lane of those that are in trouble.
_SLOW: Final = timedelta(seconds=2)


class EndpointHealth(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How an endpoint fares. Times are aware.

    `in_a_row` are failures since the last success; `window` is how many deliveries may go to it at once: 1 for a new
    one, doubled while they succeed; `proven` when its latest round succeeded, and was not slow. `paused` while its
    subscription is, and until a sender has seen that it is no more.
    """

    failure_rate: float = 0.0
    in_a_row: int = 0
    failing_since: datetime | None = None
    warned: int = 0
    parked_until: datetime | None = None
    parkings: int = 0
    window: int = 1
    proven: bool = False
    paused: bool = False


class Signal(Struct, frozen=True, kw_only=True):
    """Something that the owner is told: `failing` (with percent), `paused` or `recovered`."""

    kind: str
    failing_since: datetime
    at: datetime
    percent: int = 0


class Round(Struct, frozen=True, kw_only=True):
    """What one round of attempts at an endpoint showed.

    `outcomes` say in order whether each was answered as by an endpoint that is well, `slowest` is the longest time,
    `waits_until` what it asked for.
    """

    outcomes: tuple[bool, ...]
    slowest: timedelta
    waits_until: datetime | None = None


def after(
    health: EndpointHealth, seen: Round, *, now: datetime, pause_after: timedelta
) -> tuple[EndpointHealth, tuple[Signal, ...]]:
    """The health after a round, and what its owner is told; `paused` means that the subscription is to be paused."""
    rate, in_a_row = health.failure_rate, health.in_a_row
    for succeeded in seen.outcomes:
        rate = rate * (1 - _WEIGHT) + (0.0 if succeeded else _WEIGHT)
        in_a_row = 0 if succeeded else in_a_row + 1
    all_well = all(seen.outcomes)
    since = health.failing_since
    signals: list[Signal] = []
    warned = health.warned
    if rate < _HEALTHY:
        if since is not None and warned:
            signals.append(Signal(kind="recovered", failing_since=since, at=now))
        since, warned = None, 0
    elif since is None:
        since = now
    if since is not None and rate >= _FAILING:
        percent = to_pause(since, now, pause_after)
        for step in WARNINGS:
            if warned < step <= percent < 100:
                signals.append(Signal(kind="failing", failing_since=since, at=now, percent=step))
                warned = step
        if percent >= 100:
            signals.append(Signal(kind="paused", failing_since=since, at=now))
    parked_until, parkings = _parking(health, in_a_row, now, all_well=all_well)
    if seen.waits_until is not None:
        parked_until = max(filter(None, (parked_until, seen.waits_until)))
    window = min(LARGEST_WINDOW, health.window * 2) if all_well else max(1, health.window // 2)
    return (
        EndpointHealth(
            failure_rate=round(rate, 4),
            in_a_row=in_a_row,
            failing_since=since,
            warned=warned,
            parked_until=parked_until,
            parkings=parkings,
            window=1 if parked_until and in_a_row else window,
            proven=all_well and seen.slowest <= _SLOW,
        ),
        tuple(signals),
    )


def leaves_the_well(before: EndpointHealth, seen: Round) -> bool:
    """Whether an endpoint that was proven took so long that the rest is for the lane of those that are in trouble."""
    return before.proven and seen.slowest > _SLOW


def recovered(health: EndpointHealth, now: datetime) -> tuple[EndpointHealth, tuple[Signal, ...]]:
    """The health of an endpoint whose subscription goes on after a pause: as of a new one; and the signal, if due."""
    since = health.failing_since
    signals = (Signal(kind="recovered", failing_since=since, at=now),) if since is not None else ()
    return EndpointHealth(), signals


def to_pause(since: datetime, now: datetime, pause_after: timedelta) -> int:
    """How far an endpoint that has failed since then is on the way to the pause, in percent, at most 100."""
    return min(100, int(100 * (now - since) / pause_after))


def _parking(health: EndpointHealth, in_a_row: int, now: datetime, *, all_well: bool) -> tuple[datetime | None, int]:
    if all_well:
        return None, 0
    if in_a_row < _TRIES_BEFORE_PARKING:
        return None, health.parkings
    parkings = health.parkings + 1
    return now + exponential(parkings, base=_FIRST_PARKING, cap=_LONGEST_PARKING), parkings
