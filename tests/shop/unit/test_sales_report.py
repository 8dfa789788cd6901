"""The sales report: its figures are the ledger's, and its page needs and lets in nothing from elsewhere."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambdas.sales_report.charts import Bar, columns, scale_of, short, strip
from lambdas.sales_report.page import page_of
from lambdas.sales_report.table import table_of
from offload.runtime.events import sums
from shop.contracts.jobs.sales_report import SALES_REPORT, Period
from shop.contracts.orders import Invoice, OrderCancelled, OrderLine, OrderPlaced
from shop.ledger import Figures, Ledger, ledger_of, sums_of
from shop.orders import generate, read_orders
from tests.shop.unit.shop_jobs import ShopJobs, shop_jobs

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = ["shop_jobs"]

READ_AT = datetime(2011, 1, 1, 2, 0, tzinfo=UTC)
MADE = tuple(generate(7, 600))


class Tables(HTMLParser):
    """The page as its reader has it: the cells of each table, by caption; all elements and attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.elements: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self._rows: list[list[str]] = []
        self._caption: str | None = None
        self._inside = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")
        if tag in ("td", "th", "caption", "style"):
            self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = ""
        if tag == "table" and self._caption:
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        if self._inside in ("td", "th"):
            self._rows[-1][-1] += data
        elif self._inside == "caption":
            self._caption = data
        if self._inside != "style":
            self.text += data


def ledger(invoices: Iterable[Invoice]) -> Ledger:
    return ledger_of(sums_of(invoice.event() for invoice in invoices))


def one(country: str = "France", product: str = "22423", quantity: int = 2, on: date = date(2010, 12, 1)) -> Invoice:
    kind = OrderPlaced if quantity > 0 else OrderCancelled
    return kind(
        invoice=f"{country}{product}{on}"[:200],
        invoiced_at=datetime(on.year, on.month, on.day, 9, 0, tzinfo=UTC),
        country=country,
        lines=(OrderLine(product=product, quantity=quantity, unit_price=Decimal("12.75")),),
    )


def number(cell: str) -> Decimal:
    return Decimal(re.sub(r"[£,]", "", cell.replace("\N{MINUS SIGN}", "-")))


def page(ledger_: Ledger, period: Period | None = None) -> Tables:
    return Tables(page_of(ledger_, period or Period(), READ_AT))


def check_totals(sold: Ledger) -> None:
    total = sold.total
    tables = page(sold).tables
    assert set(tables) == {"Figures by day", "Figures by country", "Figures by product"}
    for caption, (_, *rows, last) in tables.items():
        for column, expected in ((-4, total.revenue), (-3, Decimal(total.units))):
            assert sum(number(row[column]) for row in rows) == number(last[column]) == expected, caption
        if caption != "Figures by product":
            for column, count in ((-2, total.orders), (-1, total.cancellations)):
                assert sum(number(row[column]) for row in rows) == number(last[column]) == count, caption
    added: dict[str, Figures] = {}
    names: dict[str, set[str]] = {}
    for row in csv.DictReader(io.StringIO(table_of(sold).decode(), newline="")):
        figures = Figures(Decimal(row["revenue_gbp"]), int(row["units"]), int(row["orders"]), int(row["cancellations"]))
        added[row["by"]] = added.get(row["by"], Figures()).plus(figures)
        names.setdefault(row["by"], set()).add(row["name"])
    assert added["total"] == added["day"] == added["country"] == total
    assert added["product"][:2] == total[:2]
    assert names["product"] == set(sold.by_product)


def test_the_totals_of_page_and_table_are_the_ledgers_to_the_penny() -> None:
    sold = ledger(MADE)
    assert len(sold.by_product) > 1000
    check_totals(sold)


def test_the_report_of_december_has_its_totals_to_the_penny(month: Path) -> None:
    sold = ledger(read_orders(month).invoices)
    check_totals(sold)
    text = page(sold).text
    assert "£748,957.02" in text
    assert "Sales, 1 December 2010 to 23 December 2010" in text
    assert "The best day was Wednesday, 1 December 2010, with £58,635.56. 20 days with sales." in text


def test_names_from_orders_are_shown_as_they_are_and_never_run() -> None:
    evil = '<script>alert("1")</script>', "\"'><img src=x onerror=alert(1)>&amp;", "</table></svg><style>*{}"
    sold = ledger([one(country=name, product=name[::-1]) for name in evil] + [one(country=evil[0], product=evil[1])])
    found = page(sold)
    assert not found.elements & {"script", "img", "iframe", "object", "link"}
    assert not {name for name in found.attributes if name.startswith("on")} | (found.attributes & {"src", "href"})
    assert {row[0] for row in found.tables["Figures by country"]} >= set(evil)
    assert evil[1] in {row[0] for row in found.tables["Figures by product"]}


def test_the_page_asks_nothing_of_any_other_place() -> None:
    text = page_of(ledger(MADE), Period(), READ_AT)
    assert not re.search(r"https?:|//\w|url\(|@import|<script|<link|\bsrc=|\bhref=", text)
    assert "default-src &#x27;none&#x27;" in text


def test_charts_are_well_formed_and_tell_each_bar_to_who_cannot_see_it() -> None:
    text = page_of(ledger(MADE), Period(), READ_AT)
    charts = [ElementTree.fromstring(found) for found in re.findall(r"<svg.*?</svg>", text, re.DOTALL)]  # noqa: S314  # made here
    labelled = [chart for chart in charts if chart.get("role") == "img"]
    assert [chart.get("aria-label", "")[:15] for chart in labelled] == ["Revenue by day."]
    assert all(chart.get("aria-hidden") for chart in charts if chart not in labelled)
    assert next(labelled[0].iter("title")).text == "Tuesday, 4 January 2011: £58,745.774"


def test_days_without_sales_leave_a_gap_in_the_chart_and_no_row_in_the_table() -> None:
    sold = ledger([one(on=date(2010, 12, 1)), one(on=date(2010, 12, 5))])
    text = page_of(sold, Period(), READ_AT)
    bars = re.findall(r'<rect class="more" x="([\d.]+)"[^>]* rx=', text)
    first, second = (float(left) for left in bars)
    assert second - first == pytest.approx(4 * (960 - 64) / 5, abs=0.2)
    assert len(page(sold).tables["Figures by day"]) == 1 + 2 + 1


def test_a_long_period_has_a_bar_a_month_and_still_a_row_a_day() -> None:
    sold = ledger([one(on=date(2010, 12, 1)), one(on=date(2011, 4, 30)), one(on=date(2011, 5, 1))])
    text = page_of(sold, Period(), READ_AT)
    titles = re.findall(r"<title>(.*?)</title></rect>", text)
    assert titles == ["December 2010: £25.50", "April 2011: £25.50", "May 2011: £25.50"]
    assert len(Tables(text).tables["Figures by day"]) == 1 + 3 + 1


@pytest.mark.parametrize(
    ("period", "says"),
    [
        (Period(first=date(2010, 12, 4), last=date(2010, 12, 4)), "Sales, 4 December 2010"),
        (Period(first=date(2010, 12, 4)), "Sales, from 4 December 2010"),
        (Period(last=date(2010, 12, 4)), "Sales, until 4 December 2010"),
        (Period(), "Sales, all days"),
    ],
)
def test_a_period_without_sales_is_a_page_that_says_so(period: Period, says: str) -> None:
    found = page(ledger([]), period)
    assert says in found.text
    assert "The ledger has no sales in this period." in found.text
    assert "£0.00" in found.text
    assert found.tables == {}


def test_a_day_of_more_cancellations_than_sales_hangs_below_zero_in_the_colour_of_less() -> None:
    sold = ledger([one(on=date(2010, 12, 1), quantity=4), one(on=date(2010, 12, 2), quantity=-2)])
    chart = page_of(sold, Period(), READ_AT)
    more = re.search(r'class="more" x="[\d.]+" y="([\d.]+)" width="[\d.]+" height="([\d.]+)"', chart)
    less = re.search(r'class="less" x="[\d.]+" y="([\d.]+)"', chart)
    zero = re.search(r'class="zero" x1="\d+" x2="\d+" y1="([\d.]+)"', chart)
    assert more
    assert less
    assert zero
    assert float(more[1]) + float(more[2]) == pytest.approx(float(zero[1]), abs=0.2)
    assert float(less[1]) == pytest.approx(float(zero[1]), abs=0.2)
    assert "\N{MINUS SIGN}£25.50" in chart


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
def test_a_spreadsheet_gets_no_formula_from_a_name(name: str) -> None:
    rows = list(csv.reader(io.StringIO(table_of(ledger([one(country=name)])).decode(), newline="")))
    assert ["country", f"'{name}", "25.50", "2", "1", "0"] in rows


AMOUNTS = st.decimals(min_value=-(10**9), max_value=10**9, places=3)


@given(st.lists(AMOUNTS, max_size=40))
def test_an_axis_has_few_round_marks_takes_in_every_value_and_zero(values: list[Decimal]) -> None:
    lowest, highest, step = scale_of(values)
    assert lowest <= min([Decimal(0), *values])
    assert highest >= max([Decimal(0), *values])
    assert 1 <= (highest - lowest) / step <= 7
    assert lowest % step == 0
    assert step.normalize().as_tuple().digits in ((1,), (2,), (5,))


@given(st.lists(AMOUNTS, min_size=1, max_size=200))
def test_no_bar_leaves_its_chart(values: list[Decimal]) -> None:
    drawn = ElementTree.fromstring(columns([Bar(value, ("x",), "x") for value in values], "x"))  # noqa: S314  # made here
    bars = list(drawn.iter("rect"))
    assert len(bars) == sum(1 for value in values if value)
    for bar in bars:
        left, top, width, height = (float(bar.get(name, "")) for name in ("x", "y", "width", "height"))
        assert 64 <= left <= left + width <= 960.1
        assert 11 <= top <= top + height <= 300 - 44 + 1.1
    for value in values:
        lying = ElementTree.fromstring(strip(value, min([Decimal(0), *values]), max([Decimal(0), *values])))[0]  # noqa: S314
        assert -0.01 <= float(lying.get("x", "")) <= 100.01
        assert float(lying.get("width", "")) <= 100.01


@pytest.mark.parametrize(
    ("amount", "says"),
    [("0", "£0"), ("500", "£500"), ("20000", "£20k"), ("2500000", "£2.5m"), ("-5000", "\N{MINUS SIGN}£5k")],
)
def test_marks_of_an_axis_are_short(amount: str, says: str) -> None:
    assert short(Decimal(amount)) == says


def book(table: str, client: DynamoDBClient, invoices: Sequence[Invoice]) -> None:
    for start in range(0, len(invoices), 50):
        events = [invoice.event() for invoice in invoices[start : start + 50]]
        posting = sums.Posting(table, [event.key for event in events], sums_of(events))
        client.transact_write_items(TransactItems=[posting.action()])  # type: ignore[list-item]


def test_the_job_puts_the_page_and_the_table_of_its_period(shop_jobs: ShopJobs, dynamodb: DynamoDBClient) -> None:
    book(shop_jobs.ledger, dynamodb, MADE)
    period = Period(first=date(2011, 1, 5), last=date(2011, 1, 6))
    result = shop_jobs.result(SALES_REPORT, period)
    sold = ledger(invoice for invoice in MADE if invoice.invoiced_at.day in (5, 6))
    assert (Decimal(result.revenue), result.units, result.orders, result.cancellations) == sold.total
    text, content_type = shop_jobs.file(result.page)
    assert content_type == "text/html; charset=utf-8"
    assert Tables(text).tables == page(sold, period).tables
    table, content_type = shop_jobs.file(result.table)
    assert content_type == "text/csv; charset=utf-8"
    assert table.encode() == table_of(sold)


def test_the_job_without_a_period_reports_all_that_the_ledger_has(
    shop_jobs: ShopJobs, dynamodb: DynamoDBClient
) -> None:
    book(shop_jobs.ledger, dynamodb, MADE)
    assert Decimal(shop_jobs.result(SALES_REPORT, Period()).revenue) == ledger(MADE).total.revenue


def test_a_period_that_ends_before_it_begins_fails_the_job_at_once(shop_jobs: ShopJobs) -> None:
    job = shop_jobs.run(SALES_REPORT, Period(first=date(2011, 1, 6), last=date(2011, 1, 5)))
    assert (job.state.value, job.attempt) == ("failed", 1)
    assert job.error == "the period ends on 2011-01-05, before it begins on 2011-01-06"
