"""A period's sales by day, country and product: a page with charts, and a table of all of it."""

from __future__ import annotations

from datetime import UTC, datetime

from offload.runtime import aws
from offload.runtime.jobs.run import Permanent, Run, job
from offload.runtime.settings import Settings
from shop.contracts.jobs.sales_report import SALES_REPORT, Period, Report
from shop.ledger import read_ledger
from shop.money import money

from .page import page_of
from .table import table_of


class SalesReportSettings(Settings, frozen=True, kw_only=True):
    """The table that the ledger is in."""

    ledger_table: str


settings = SalesReportSettings.from_environment()


@job(SALES_REPORT)
def handler(period: Period, run: Run) -> Report:
    """Reads the period's days from the ledger, and puts both files."""
    if period.first and period.last and period.last < period.first:
        raise Permanent(f"the period ends on {period.last}, before it begins on {period.first}")
    read_at = datetime.now(UTC)
    ledger = read_ledger(settings.ledger_table, aws.dynamodb(), first=period.first, last=period.last)
    run.check()
    return Report(
        revenue=money(ledger.total.revenue),
        units=ledger.total.units,
        orders=ledger.total.orders,
        cancellations=ledger.total.cancellations,
        page=run.put("report.html", page_of(ledger, period, read_at).encode(), "text/html; charset=utf-8"),
        table=run.put("report.csv", table_of(ledger), "text/csv; charset=utf-8"),
    )
