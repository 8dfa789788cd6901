"""The exchange rates' job type."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from msgspec import Struct

from offload.contracts.events.event import Count
from offload.contracts.jobs.job_type import JobType, Retry, Schedule


class RatesWanted(Struct, frozen=True, kw_only=True):
    """The newest reference rates; with `history`, the last 90 days, whether or not one of them is missing."""

    history: bool = False


class RatesKept(Struct, frozen=True, kw_only=True):
    """What a look at the European Central Bank's rates brought.

    `newest` is the newest day that is stored now, and `working_days_behind` how many of the bank's working days have
    been published since; `added` days are new, `differing` days came with other rates than are stored for them.
    """

    newest: date
    working_days_behind: Count
    added: Count
    differing: Count


EXCHANGE_RATES: Final = JobType(
    name="exchange_rates",
    input=RatesWanted,
    result=RatesKept,
    timeout=timedelta(minutes=1),
    # The bank is usually done by 16:00; of a day that is late, or of a bank that does not answer, the last try is two
    # hours later.
    retry=Retry(attempts=8, first_wait=timedelta(minutes=5), longest_wait=timedelta(minutes=20)),
    concurrency=1,
    schedule=Schedule(cron="15 16 * * 1-5", timezone="Europe/Berlin", input=RatesWanted()),
)
