"""When scheduled jobs start, by injected time: both clock changes, an outage over the fire time, each policy."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec import Struct

from clinic.contracts.jobs import WARD_REPORT
from offload.contracts.jobs.job import Job, State
from offload.contracts.jobs.job_type import CatchUp, JobType, Overlap, Schedule, rate_of
from offload.runtime.jobs import schedules
from offload.runtime.jobs.leases import Lease
from offload.runtime.jobs.schedules import BadSchedule, Fired, due_fires, fire_times, next_fires
from tests.unit.jobs.job_bench import JobBench

LONDON = ZoneInfo("Europe/London")
# The nights on which London's clock changes: in March from 01:00 to 02:00, in October from 02:00 back to 01:00.
SPRING, AUTUMN = datetime(2027, 3, 28, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Nothing(Struct, frozen=True):
    """A test job's input."""

    what: str = ""


def nightly(cron: str = "0 2 * * *", catch_up: CatchUp = CatchUp.ONE, days: int = 1) -> Schedule[Any]:
    """A nightly schedule in London."""
    return Schedule(
        cron=cron, timezone="Europe/London", input=Nothing(), catch_up=catch_up, window=timedelta(days=days)
    )


def each_minute(first: datetime, last: datetime) -> Iterable[datetime]:
    """A look at half past each minute."""
    now = first + MINUTE / 2
    while now < last:
        yield now
        now += MINUTE


def looks(schedule: Schedule[Any], first: datetime, moments: Iterable[datetime]) -> list[tuple[datetime, datetime]]:
    """What starts when somebody looks at these moments: each fire time, and when it was seen."""
    seen, looked = [], first
    for now in moments:
        seen += [(fired, now) for fired in due_fires(schedule, looked, now)]
        looked = now
    return seen


# The clock


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_a_nightly_job_starts_once_a_night_all_through_a_year(catch_up: CatchUp) -> None:
    begin = datetime(2026, 6, 1, tzinfo=UTC)
    # In summer 02:00 in London is 01:00 UTC: each night there are looks around both.
    moments = [
        begin + day * DAY + hour * timedelta(hours=1) + minute * MINUTE + MINUTE / 2
        for day in range(365)
        for hour in (1, 2)
        for minute in range(-4, 5)
    ]
    seen = looks(nightly(catch_up=catch_up), begin, moments)
    local = [fired.astimezone(LONDON) for fired, _ in seen]
    assert [time.date() for time in local] == [(begin + day * DAY).date() for day in range(365)]
    assert {(time.hour, time.minute) for time in local} == {(2, 0)}
    assert max(now - fired for fired, now in seen) == MINUTE / 2


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_a_nightly_job_starts_once_on_the_nights_of_the_clock_change(change: datetime, catch_up: CatchUp) -> None:
    seen = looks(nightly(catch_up=catch_up), change - DAY, each_minute(change - DAY, change + 2 * DAY))
    local = [fired.astimezone(LONDON) for fired, _ in seen]
    assert [(time.date(), time.hour) for time in local] == [((change + day * DAY).date(), 2) for day in (-1, 0, 1)]


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
@pytest.mark.parametrize(("catch_up", "starts"), [(CatchUp.NONE, 0), (CatchUp.ONE, 1), (CatchUp.ALL, 1)])
def test_an_outage_over_the_fire_time_of_a_clock_change(change: datetime, catch_up: CatchUp, starts: int) -> None:
    back = change + timedelta(hours=5)
    moments = [now for now in each_minute(change, change + DAY) if not change + MINUTE < now < back]
    seen = looks(nightly(catch_up=catch_up), change, moments)
    assert [(fired.astimezone(LONDON).hour, now) for fired, now in seen] == [(2, back + MINUTE / 2)] * starts


def test_a_time_that_the_clock_skips_fires_at_the_first_moment_after_the_gap() -> None:
    seen = looks(nightly("30 1 * * *"), SPRING - DAY, each_minute(SPRING - DAY, SPRING + 2 * DAY))
    local = [fired.astimezone(LONDON) for fired, _ in seen]
    assert [(time.day, time.hour, time.minute) for time in local] == [(27, 1, 30), (28, 2, 0), (29, 1, 30)]


def test_a_time_that_comes_twice_fires_the_first_time_only() -> None:
    seen = looks(nightly("30 1 * * *"), AUTUMN - DAY, each_minute(AUTUMN - DAY, AUTUMN + 2 * DAY))
    assert [fired for fired, _ in seen] == [
        datetime(2026, 10, day, hour, 30, tzinfo=UTC) for day, hour in ((24, 0), (25, 0), (26, 1))
    ]


def test_fire_times_asked_for_within_the_second_of_two_equal_hours_lie_ahead() -> None:
    after = AUTUMN + timedelta(hours=1, minutes=10)
    assert next(fire_times(nightly("30 1 * * *"), after)) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_two_fixed_times_that_the_gap_throws_together_are_one() -> None:
    times = list(islice(fire_times(nightly("0,30 1 * * *"), SPRING), 3))
    assert times == [datetime(2027, 3, 28, 1, 0, tzinfo=UTC)] + [
        datetime(2027, 3, 29, 0, minute, tzinfo=UTC) for minute in (0, 30)
    ]


@pytest.mark.parametrize(("change", "times"), [(SPRING, 46), (AUTUMN, 50)])
def test_a_rate_goes_by_elapsed_time_over_a_clock_change(change: datetime, times: int) -> None:
    midnight = change.astimezone(LONDON).replace(hour=0, minute=0)
    ends = (midnight + DAY).astimezone(UTC)
    fired = []
    for time in fire_times(nightly("*/30 * * * *"), midnight.astimezone(UTC) - MINUTE):
        if time >= ends:
            break
        fired.append(time)
    assert len(fired) == times
    assert {later - earlier for earlier, later in pairwise(fired)} == {timedelta(minutes=30)}


def test_a_rate_that_no_cron_can_say_keeps_its_distance_over_a_clock_change() -> None:
    change = datetime(2026, 10, 25, 1, tzinfo=UTC)
    fired = list(islice(fire_times(nightly("rate(90 minutes)"), change - DAY), 40))
    assert {later - earlier for earlier, later in pairwise(fired)} == {timedelta(minutes=90)}
    assert change - DAY < fired[0] <= change - DAY + timedelta(minutes=90)
    # The same ones whenever one begins to look, and never the moment itself.
    assert next(iter(fire_times(nightly("rate(90 minutes)"), fired[7]))) == fired[8]
    assert rate_of("rate(1 hour)") == timedelta(hours=1)
    for wrong in ("rate(0 minutes)", "rate(5 weeks)", "rate(1.5 hours)", "0 2 * * *"):
        assert rate_of(wrong) is None


# Catching up


@pytest.mark.parametrize(("catch_up", "nights"), [(CatchUp.NONE, []), (CatchUp.ONE, [25]), (CatchUp.ALL, [23, 24, 25])])
def test_what_an_outage_left_out_is_caught_up_on_as_the_policy_says(catch_up: CatchUp, nights: list[int]) -> None:
    # From the 22nd, 18:00, to the 25th, 06:00: three fire times pass, the last on the night of the clock change.
    down, up = datetime(2026, 10, 22, 18, tzinfo=UTC), datetime(2026, 10, 25, 6, tzinfo=UTC)
    fired = due_fires(nightly(catch_up=catch_up, days=7), down, up)
    assert [time.astimezone(LONDON).day for time in fired] == nights


def test_what_lies_before_the_window_is_left_alone() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    for catch_up, days in ((CatchUp.ALL, [23, 24]), (CatchUp.ONE, [24])):
        fired = due_fires(nightly(catch_up=catch_up, days=2), now - timedelta(days=30), now)
        assert [time.day for time in fired] == days
    assert due_fires(nightly("0 2 * * MON", CatchUp.ALL, days=1), now - timedelta(days=30), now) == []


def test_a_late_look_starts_each_fire_time_that_is_still_on_time() -> None:
    now = datetime(2026, 11, 24, 12, 2, 30, tzinfo=UTC)
    for catch_up in (CatchUp.ONE, CatchUp.NONE):
        fired = due_fires(nightly("* * * * *", catch_up), now - timedelta(hours=1), now)
        assert [time.minute for time in fired] == [0, 1, 2]


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (nightly("61 2 * * *"), "cron '61 2 \\* \\* \\*': Bad minute"),
        (nightly("0 2 * *"), "five fields"),
        (nightly("0 0 2 * * *"), "five fields"),
        (nightly("0 2 30 2 *"), "Bad day-of-month"),
        (Schedule(cron="0 2 * * *", timezone="London", input=Nothing()), "time zone 'London': use an IANA name"),
        (Schedule(cron="0 2 * * *", timezone="../etc", input=Nothing()), "time zone"),
        (Schedule(cron="0 2 * * *", timezone="", input=Nothing()), "time zone"),
    ],
)
def test_a_schedule_that_never_fires_is_refused_by_name(schedule: Schedule[Any], said: str) -> None:
    with pytest.raises(BadSchedule, match=said):
        next_fires(schedule, AUTUMN)


# On the jobs' table


def kind(
    overlap: Overlap = Overlap.SKIP, catch_up: CatchUp = CatchUp.ONE, cron: str = "0 2 * * *", what: str = ""
) -> JobType[Any, Any]:
    """A type with a schedule."""
    schedule = Schedule(
        cron=cron,
        timezone="Europe/London",
        input=Nothing(what),
        overlap=overlap,
        catch_up=catch_up,
        window=timedelta(days=7),
    )
    return JobType(name="nightly", input=Nothing, result=Nothing, schedule=schedule)


@pytest.fixture
def bench(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    """A job service with a nightly type, at noon."""
    return JobBench(monkeypatch, kind())


def jobs(bench: JobBench) -> list[Job]:
    """The schedule's jobs, the oldest first."""
    return list(reversed(bench.store.page(types=["nightly"], tag="schedule:nightly").jobs))


def scheduled_for(bench: JobBench) -> list[str]:
    """Which fire times have a job."""
    return sorted(job.tags[1].removeprefix("scheduled-for:") for job in jobs(bench))


def at(bench: JobBench, day: int, hour: int, minute: int = 0) -> None:
    """Sets the clock to a time of November 2026, when London's is UTC."""
    bench.time = datetime(2026, 11, day, hour, minute, 20, tzinfo=UTC)


def end(bench: JobBench, job: Job) -> None:
    """Runs a job to its end."""
    lease = bench.store.start(kind(), job.id, 1, bench.time + MINUTE)
    assert isinstance(lease, Lease), lease
    bench.store.succeed(kind(), lease, b"{}")


def test_a_schedule_starts_one_job_a_fire_time_however_often_it_is_looked_at(bench: JobBench) -> None:
    nights = kind()
    assert schedules.fire(bench.store, nights) == Fired()
    for day in (25, 26):
        at(bench, day, 2)
        assert [schedules.fire(bench.store, nights).started for _ in range(3)] == [1, 0, 0]
        end(bench, jobs(bench)[-1])
    assert scheduled_for(bench) == ["2026-11-25T02:00:00Z", "2026-11-26T02:00:00Z"]
    assert schedules.state(bench.store, nights).last_job == jobs(bench)[-1].id


@pytest.mark.parametrize("overlap", list(Overlap))
def test_looks_at_the_same_moment_start_one_job(bench: JobBench, overlap: Overlap) -> None:
    schedules.fire(bench.store, kind(overlap))
    at(bench, 25, 2)
    with ThreadPoolExecutor(4) as pool:
        fired = list(pool.map(lambda _: schedules.fire(bench.new_store(), kind(overlap)), range(8)))
    assert sum(one.started for one in fired) == 1
    assert scheduled_for(bench) == ["2026-11-25T02:00:00Z"]
    state = schedules.state(bench.store, kind(overlap))
    assert (state.looked_until, state.waiting) == (bench.time, ())


def killed(*_: Any) -> None:
    """Where the process dies."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("overlap", list(Overlap))
def test_a_look_that_dies_after_its_submit_neither_loses_nor_doubles_the_job(
    bench: JobBench, overlap: Overlap, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedules.fire(bench.store, kind(overlap))
    at(bench, 25, 2)
    with monkeypatch.context() as patch:
        patch.setattr(schedules, "_look", killed)
        with pytest.raises(KeyboardInterrupt):
            schedules.fire(bench.store, kind(overlap))
    end(bench, jobs(bench)[0])
    # A deploy meanwhile has changed the schedule's input.
    assert schedules.fire(bench.store, kind(overlap, what="new")) == Fired()
    at(bench, 25, 2, 1)
    assert schedules.fire(bench.store, kind(overlap)) == Fired()
    assert len(jobs(bench)) == 1


def test_skip_leaves_out_the_fire_times_while_the_run_before_goes_on(bench: JobBench) -> None:
    nights = kind(Overlap.SKIP)
    schedules.fire(bench.store, nights)
    at(bench, 25, 2)
    assert schedules.fire(bench.store, nights) == Fired(started=1)
    at(bench, 26, 2)
    assert schedules.fire(bench.store, nights) == Fired(skipped=1)
    end(bench, jobs(bench)[0])
    at(bench, 26, 3)
    assert schedules.fire(bench.store, nights) == Fired()
    at(bench, 27, 2)
    assert schedules.fire(bench.store, nights) == Fired(started=1)
    assert scheduled_for(bench) == ["2026-11-25T02:00:00Z", "2026-11-27T02:00:00Z"]


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_queue_starts_each_fire_time_when_the_run_before_has_ended(bench: JobBench, catch_up: CatchUp) -> None:
    nights = kind(Overlap.QUEUE, catch_up)
    schedules.fire(bench.store, nights)
    for day, waiting in ((25, 0), (26, 1), (27, 2)):
        at(bench, day, 2)
        assert schedules.fire(bench.store, nights).waiting == waiting
    assert [time.day for time in schedules.state(bench.store, nights).waiting] == [26, 27]
    for minute, started in ((1, 1), (2, 1), (3, 0)):
        end(bench, jobs(bench)[-1])
        at(bench, 27, 9, minute)
        assert schedules.fire(bench.store, nights).started == started
    assert scheduled_for(bench) == [f"2026-11-{day}T02:00:00Z" for day in (25, 26, 27)]


@pytest.mark.parametrize("change", [SPRING, AUTUMN])
@pytest.mark.parametrize(
    ("overlap", "second", "after_the_end"),
    [
        (Overlap.SKIP, Fired(skipped=1), Fired()),
        (Overlap.QUEUE, Fired(waiting=1), Fired(started=1)),
        (Overlap.ALLOW, Fired(started=1), Fired()),
    ],
)
def test_on_the_night_of_a_clock_change_the_run_before_counts_as_on_any_other(
    bench: JobBench, change: datetime, overlap: Overlap, second: Fired, after_the_end: Fired
) -> None:
    london = kind(overlap)
    bench.time = change - DAY
    schedules.fire(bench.store, london)
    before, at_change = next_fires(nightly(), bench.time, 2)
    bench.time = before
    assert schedules.fire(bench.store, london) == Fired(started=1)
    bench.time = at_change
    assert schedules.fire(bench.store, london) == second
    # The hour that comes twice, or never, is no second night.
    bench.time = at_change + timedelta(hours=1)
    assert schedules.fire(bench.store, london).started == 0
    end(bench, jobs(bench)[-1])
    bench.time = at_change + timedelta(hours=2)
    assert schedules.fire(bench.store, london) == after_the_end


def test_allow_starts_a_run_beside_the_one_before(bench: JobBench) -> None:
    nights = kind(Overlap.ALLOW)
    schedules.fire(bench.store, nights)
    for day in (25, 26):
        at(bench, day, 2)
        assert schedules.fire(bench.store, nights) == Fired(started=1)
    assert [job.state for job in jobs(bench)] == [State.QUEUED] * 2


@pytest.mark.parametrize(
    ("overlap", "catch_up", "fired", "started"),
    [
        (Overlap.ALLOW, CatchUp.NONE, Fired(), []),
        (Overlap.ALLOW, CatchUp.ONE, Fired(started=1), [27]),
        (Overlap.ALLOW, CatchUp.ALL, Fired(started=3), [25, 26, 27]),
        (Overlap.QUEUE, CatchUp.ALL, Fired(started=1, waiting=2), [25]),
        (Overlap.SKIP, CatchUp.ALL, Fired(started=1, skipped=2), [25]),
    ],
)
def test_after_an_outage_of_three_nights_catch_up_and_overlap_say_together_what_starts(
    bench: JobBench, overlap: Overlap, catch_up: CatchUp, fired: Fired, started: list[int]
) -> None:
    nights = kind(overlap, catch_up)
    schedules.fire(bench.store, nights)
    at(bench, 27, 9)
    assert schedules.fire(bench.store, nights) == fired
    assert scheduled_for(bench) == [f"2026-11-{day}T02:00:00Z" for day in started]
    assert schedules.fire(bench.store, nights).started == 0


def test_a_long_outage_is_caught_up_on_over_several_looks(bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "FIRES_AT_ONCE", 3)
    often = kind(Overlap.ALLOW, CatchUp.ALL, "*/10 * * * *")
    schedules.fire(bench.store, often)
    bench.pass_time(minutes=75)
    assert [schedules.fire(bench.store, often).started for _ in range(4)] == [3, 3, 1, 0]
    assert len(set(scheduled_for(bench))) == 7


def test_a_queue_of_fire_times_has_an_end(bench: JobBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "LONGEST_QUEUE", 3)
    often = kind(Overlap.QUEUE, CatchUp.ALL, "*/10 * * * *")
    schedules.fire(bench.store, often)
    bench.pass_time(minutes=75)
    assert schedules.fire(bench.store, often) == Fired(started=1, skipped=3, waiting=3)


def test_a_paused_schedule_starts_nothing_and_goes_on_from_its_resume(bench: JobBench) -> None:
    nights = kind()
    schedules.fire(bench.store, nights)
    schedules.pause(bench.store, "nightly")
    assert schedules.state(bench.store, nights).paused
    at(bench, 25, 2)
    assert schedules.fire(bench.store, nights) == Fired()
    at(bench, 25, 9)
    schedules.resume(bench.store, "nightly")
    assert not schedules.state(bench.store, nights).paused
    assert schedules.fire(bench.store, nights) == Fired()
    at(bench, 26, 2)
    # Resumed twice it loses nothing.
    schedules.resume(bench.store, "nightly")
    assert schedules.fire(bench.store, nights) == Fired(started=1)
    assert scheduled_for(bench) == ["2026-11-26T02:00:00Z"]


def test_a_schedule_begins_when_its_type_is_deployed(aws_of_module: None, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = JobBench(monkeypatch)
    nights = kind()
    schedules.fire(bench.store, nights)
    at(bench, 25, 2)
    assert schedules.fire(bench.store, nights) == Fired()
    bench.deploy(nights)
    assert schedules.fire(bench.store, nights) == Fired()
    at(bench, 26, 2)
    assert schedules.fire(bench.store, nights) == Fired(started=1)


def test_a_schedule_shows_its_next_five_fire_times(bench: JobBench) -> None:
    bench.time = datetime(2026, 10, 23, 12, tzinfo=UTC)
    state = schedules.state(bench.store, replace(WARD_REPORT, name="nightly"))
    assert [time.isoformat() for time in state.next_fires] == [
        "2026-10-24T01:00:00+00:00",
        "2026-10-25T02:00:00+00:00",
        *(f"2026-10-{day}T02:00:00+00:00" for day in (26, 27, 28)),
    ]
    assert (state.paused, state.looked_until, state.waiting, state.last_job) == (False, None, (), None)
    with pytest.raises(LookupError, match="job type 'nightly' has no schedule"):
        schedules.state(bench.store, replace(kind(), schedule=None))
