"""On the European Central Bank's working days: fetches its reference rates and stores them, once each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from offload.runtime import aws
from offload.runtime.http.client import Client
from offload.runtime.http.failures import CallFailed
from offload.runtime.jobs.run import RetryAfter, Run, job
from offload.runtime.log import Logger
from offload.runtime.settings import Settings
from shop.contracts.jobs.exchange_rates import EXCHANGE_RATES, RatesKept, RatesWanted
from shop.ecb import BadRates, DayRates, days_behind, last_published, read_rates, today
from shop.rates import STALE_AFTER, RatesTable

from .plausible import Implausible, check, has_gap

# The daily file has 2 KB, that of 90 days below 100.
_LONGEST: Final = 1024 * 1024
_LATE: Final = timedelta(minutes=15)


class ExchangeRatesSettings(Settings, frozen=True, kw_only=True):
    """The table of rates, and where the bank's two files are."""

    rates_table: str
    rates_daily_url: str
    rates_history_url: str


settings = ExchangeRatesSettings.from_environment()
log = Logger(service="exchange_rates")
bank = Client.from_environment("ecb")


@job(EXCHANGE_RATES)
def handler(wanted: RatesWanted, run: Run) -> RatesKept:
    """Stores the newest day, and days that were missed. A day that is not published yet is looked for again."""
    now = datetime.now(UTC)
    table = RatesTable(settings.rates_table, aws.dynamodb())
    before = table.newest()
    try:
        days = _fetch(settings.rates_daily_url)
        check(days, before, today(now))
    except (CallFailed, BadRates, Implausible):
        if before is not None:
            _say(before.day, days_behind(before.day, now), run)
        raise
    if wanted.history or has_gap(before, days[0].day):
        days = _with_history(days, now)
    run.check()
    stored = table.keep(days, source=settings.rates_daily_url, at=now)
    for day in stored.differing:
        log.warning("rates differ", day=day.isoformat(), outcome="kept beside: the stored ones count", job_id=run.id)
    newest = days[-1].day
    behind = days_behind(newest, now)
    _say(newest, behind, run, added=len(stored.added), differing=len(stored.differing))
    if behind and not _is_last(run):
        raise RetryAfter(_LATE.total_seconds(), f"the rates of {last_published(now)} are not there, but of {newest}")
    return RatesKept(
        newest=newest, working_days_behind=behind, added=len(stored.added), differing=len(stored.differing)
    )


def _say(newest: date, behind: int, run: Run, **counts: int) -> None:
    """One line an attempt, also one that failed, with how old the rates are by now: an alarm goes by it."""
    write = log.warning if behind > STALE_AFTER else log.info
    write("rates", newest_day=newest.isoformat(), rates_days_behind=behind, **counts, job_id=run.id)


def _is_last(run: Run) -> bool:
    return run.attempt >= EXCHANGE_RATES.retry.attempts


def _fetch(url: str) -> list[DayRates]:
    answer = bank.get(url, headers={"accept": "application/xml, text/xml"})
    return read_rates(answer.body, longest=_LONGEST)


def _with_history(days: Sequence[DayRates], now: datetime) -> list[DayRates]:
    """The days, and those of the bank's last 90; without these when they cannot be had: the next job looks again."""
    try:
        history = _fetch(settings.rates_history_url)
        check(history, None, today(now))
    except (CallFailed, BadRates, Implausible) as error:
        log.warning("history", outcome="failed", detail=str(error))
        return list(days)
    found = {each.day: each for each in (*history, *days)}
    return [found[day] for day in sorted(found)]
