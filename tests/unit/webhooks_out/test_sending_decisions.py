"""What follows from an attempt, and how an endpoint fares: decisions, by tables and by properties."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from offload.contracts.webhooks_out.subscription import RETRY_SCHEDULE, Attempt, Why
from offload.runtime.webhooks_out import health, retries
from offload.runtime.webhooks_out.health import EndpointHealth, Round

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
LATER = NOW + timedelta(days=14)
PAUSE = timedelta(hours=120)


def attempt(number: int = 1, status: int | None = 500, **headers: str) -> Attempt:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Attempt(number=number, at=NOW, duration_ms=1, status=status, headers=named)


def after(tried: Attempt, *, expires_at: datetime = LATER, chance: float = 0.5) -> retries.Next:
    return retries.after(tried, now=NOW, schedule=RETRY_SCHEDULE, expires_at=expires_at, chance=chance)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_2xx_is_delivered(status: int) -> None:
    assert after(attempt(status=status)) == retries.Next(delivered=True)


@pytest.mark.parametrize("status", [None, 301, 307, 400, 401, 404, 408, 409, 422, 429, 500, 502, 503, 504])
def test_all_else_is_tried_again_by_the_schedule_a_redirect_and_a_404_too(status: int | None) -> None:
    for number, wait in enumerate(RETRY_SCHEDULE, start=1):
        assert after(attempt(number, status)).retry_at == NOW + wait


def test_after_the_last_attempt_it_is_given_up() -> None:
    then = after(attempt(len(RETRY_SCHEDULE) + 1))
    assert then == retries.Next(given_up=Why.ATTEMPTS_EXHAUSTED)


def test_410_gives_up_and_pauses_the_subscription() -> None:
    assert after(attempt(status=410)) == retries.Next(given_up=Why.GONE, pause=Why.GONE)


@pytest.mark.parametrize("status", [400, 500])
def test_the_receiver_can_end_a_delivery(status: int) -> None:
    assert after(attempt(status=status, webhook_retry=" No ")) == retries.Next(given_up=Why.RECEIVER_SAID_NO)
    assert after(attempt(status=status, webhook_retry="yes")).retry_at is not None


def test_what_would_come_after_its_expiry_is_given_up_now() -> None:
    then = after(attempt(9), expires_at=NOW + timedelta(hours=23))
    assert then.given_up is Why.EXPIRED


@pytest.mark.parametrize(
    ("said", "wait"),
    [
        ("120", timedelta(seconds=120)),
        ("0", timedelta(seconds=5)),
        ("-5", timedelta(seconds=5)),
        ("soon", timedelta(seconds=5)),
        ("999999999", retries.LONGEST_RETRY_AFTER),
        ("Fri, 27 Nov 2026 12:10:00 GMT", timedelta(minutes=10)),
        ("Friday, 27-Nov-26 12:10:00 GMT", timedelta(minutes=10)),
        ("Fri Nov 27 12:10:00 2026", timedelta(minutes=10)),
        ("Fri, 27 Nov 2026 11:00:00 GMT", timedelta(seconds=5)),
    ],
)
def test_retry_after_is_honoured_in_each_form_and_capped(said: str, wait: timedelta) -> None:
    then = after(attempt(status=429, retry_after=said))
    assert then.retry_at == NOW + wait
    # Who asks to slow down is left alone as a whole.
    assert (then.endpoint_waits_until or NOW) <= NOW + wait


def test_retry_after_never_shortens_a_wait_of_the_schedule() -> None:
    assert after(attempt(4, status=503, retry_after="1")).retry_at == NOW + RETRY_SCHEDULE[3]


@given(chance=st.floats(0, 1), number=st.integers(1, len(RETRY_SCHEDULE)))
def test_jitter_is_a_tenth_at_the_most(chance: float, number: int) -> None:
    retry_at = after(attempt(number), chance=chance).retry_at
    assert retry_at is not None
    wait = RETRY_SCHEDULE[number - 1]
    assert wait * 0.899 <= retry_at - NOW <= wait * 1.101


def one(succeeded: bool, slowest: float = 0.1) -> Round:
    return Round(outcomes=(succeeded,), slowest=timedelta(seconds=slowest))


def fares(outcomes: list[bool], *, every: timedelta = timedelta(hours=3)) -> tuple[EndpointHealth, list[str]]:
    now, found, told = NOW, EndpointHealth(), []
    for succeeded in outcomes:
        found, signals = health.after(found, one(succeeded), now=now, pause_after=PAUSE)
        told += [f"{signal.kind}{signal.percent or ''}" for signal in signals]
        now += every
    return found, told


def test_a_new_endpoint_is_given_one_delivery_then_twice_as_many_each_time() -> None:
    found, windows = EndpointHealth(), []
    for _ in range(7):
        windows.append(found.window)
        found, _ = health.after(found, one(succeeded=True), now=NOW, pause_after=PAUSE)
    assert windows == [1, 2, 4, 8, 16, 24, 24]
    assert found.proven


def test_a_slow_endpoint_is_not_proven() -> None:
    found, _ = health.after(EndpointHealth(), one(succeeded=True, slowest=3), now=NOW, pause_after=PAUSE)
    assert not found.proven


def test_five_failures_in_a_row_park_an_endpoint_each_time_for_longer() -> None:
    found, parked = EndpointHealth(), []
    for _ in range(12):
        found, _ = health.after(found, one(succeeded=False), now=NOW, pause_after=PAUSE)
        parked.append((found.parked_until - NOW).total_seconds() if found.parked_until else 0)
    assert parked == [0, 0, 0, 0, 30, 60, 120, 240, 480, 600, 600, 600]
    found, _ = health.after(found, one(succeeded=True), now=NOW, pause_after=PAUSE)
    assert (found.parked_until, found.parkings) == (None, 0)


def test_who_asks_to_wait_is_parked_at_once() -> None:
    until = NOW + timedelta(minutes=10)
    seen = Round(outcomes=(False,), slowest=timedelta(0), waits_until=until)
    assert health.after(EndpointHealth(), seen, now=NOW, pause_after=PAUSE)[0].parked_until == until


def test_warnings_come_at_50_70_and_90_percent_each_once_and_then_the_pause() -> None:
    _, told = fares([False] * 60)
    assert told[:4] == ["failing50", "failing70", "failing90", "paused"]
    assert told.count("failing50") == told.count("failing70") == told.count("failing90") == 1


def test_failures_in_numbers_pause_nothing_before_the_time_is_up() -> None:
    found, told = fares([False] * 500, every=timedelta(seconds=10))
    assert told == []
    assert found.failure_rate > 0.99


def test_time_pauses_nothing_while_enough_succeeds() -> None:
    _, told = fares([False, True] * 100)
    assert told == []


def test_who_was_warned_of_is_told_to_have_recovered_once() -> None:
    found, told = fares([False] * 30 + [True] * 10)
    assert told[-1] == "recovered"
    assert told.count("recovered") == 1
    assert found.failing_since is None


@given(st.lists(st.booleans(), max_size=200))
def test_however_it_fares_each_warning_comes_once_a_time_of_failing_and_in_order(outcomes: list[bool]) -> None:
    found, told = fares(outcomes)
    order = {"failing50": 1, "failing70": 2, "failing90": 3, "paused": 4}
    last = 0
    for kind in told:
        if kind == "recovered":
            assert last
            last = 0
        else:
            assert order[kind] > last or kind == "paused"
            last = order[kind]
    assert 0 <= found.failure_rate <= 1
    assert 1 <= found.window <= health.LARGEST_WINDOW
