"""What the wards did in some days: a page, and a table of all of it."""

from __future__ import annotations

from clinic.contracts.jobs import WARD_REPORT, Days, Report
from clinic.ledger import read_ledger
from offload.runtime import aws
from offload.runtime.jobs.run import Permanent, Run, job
from offload.runtime.settings import Settings


class WardReportSettings(Settings, frozen=True, kw_only=True):
    """The table that the ledger is in."""

    ledger_table: str


settings = WardReportSettings.from_environment()


@job(WARD_REPORT)
def handler(days: Days, run: Run) -> Report:
    """Reads the days from the ledger, and puts both files."""
    if days.first and days.last and days.last < days.first:
        raise Permanent(f"the days end on {days.last}, before they begin on {days.first}")
    first, last = (day.isoformat() if day else None for day in (days.first, days.last))
    figures = read_ledger(settings.ledger_table, aws.dynamodb(), first=first, last=last)
    run.check()
    return Report(
        fees=str(figures.fees),
        units=figures.units,
        visits=figures.visits,
        cancellations=figures.cancellations,
        page=run.put("report.html", f"<p>{figures.visits} visits</p>".encode(), "text/html; charset=utf-8"),
        table=run.put("report.csv", f"visits\n{figures.visits}\n".encode(), "text/csv; charset=utf-8"),
    )
