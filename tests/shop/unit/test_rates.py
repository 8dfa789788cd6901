"""The bank's files read strictly, its calendar, rates stored by day, and the ledger in another currency."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError
from typer.testing import CliRunner

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.cli.terminal.screen import Screen
from shop.commands import rates as rates_commands
from shop.commands.ledger import By, document_of, table_of
from shop.commands.ledger_currency import Conversion, of_sections
from shop.contracts.orders import Invoice, OrderLine, OrderPlaced
from shop.ecb import (
    BadRates,
    DayRates,
    days_behind,
    is_working_day,
    last_published,
    last_working_day,
    read_rates,
    today,
)
from shop.ledger import ledger_of, sums_of
from shop.rates import RatesTable, rates_of, rounded
from tests.conftest import new_table
from tests.shop.rates_files import DAILY, daily_file, history_file

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LONGEST = 100_000
FRIDAY = date(2024, 6, 28)
NOON = datetime(2024, 7, 1, 12, tzinfo=UTC)
RECORDED = DAILY.read_bytes()


def rates(day: date, **units: str) -> DayRates:
    """A day's rates, as `GBP="0.85"`."""
    return DayRates(day, {currency: Decimal(rate) for currency, rate in units.items()})


# -- the file


def test_the_recorded_file_reads_as_thirty_currencies_of_one_day() -> None:
    (found,) = read_rates(RECORDED, longest=LONGEST)
    assert found.day == FRIDAY
    assert len(found.rates) == 30
    assert (found.rates["GBP"], found.rates["IDR"]) == (Decimal("0.84638"), Decimal("17487.21"))


def test_a_history_reads_as_its_days_oldest_first() -> None:
    file = history_file({date(2013, 2, 20): {"USD": "1.34"}, date(2013, 2, 19): {"USD": "1.3349", "JPY": "124.81"}})
    assert read_rates(file, longest=LONGEST) == [
        rates(date(2013, 2, 19), USD="1.3349", JPY="124.81"),
        rates(date(2013, 2, 20), USD="1.34"),
    ]


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY lol "lol">'
    + b"".join(
        b'<!ENTITY lol%d "%s">' % (n, b"&lol%s;" % (b"" if n == 1 else b"%d" % (n - 1)) * 10) for n in range(1, 10)
    )
    + b"]><lolz>&lol9;</lolz>"
)
OUTSIDE = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY file SYSTEM "file:///etc/passwd">]>' + RECORDED.partition(b"\n")[
    2
].replace(b"Reference rates", b"&file;")


def with_(old: str, new: str) -> bytes:
    assert old.encode() in RECORDED
    return RECORDED.replace(old.encode(), new.encode(), 1)


TWICE = history_file({FRIDAY: {"USD": "1"}}).replace(b"</Cube></gesmes", b'<Cube time="2024-06-28"/></Cube></gesmes')
USD = "<Cube currency='USD' rate='1.0705'/>"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not XML: no element found"),
        (b"\xff\xfe\x00garbage", "not XML"),
        (b"{}", "not XML"),
        (RECORDED[: len(RECORDED) // 2], "not XML: "),
        (RECORDED + RECORDED, "not XML"),
        (b"<!DOCTYPE html><html><body>Service unavailable</body></html>", "line 1: it declares a document type"),
        (b"<html><body>Service unavailable</body></html>", "line 1: 'html' does not belong there"),
        (BOMB, "it declares a document type"),
        (OUTSIDE, "it declares a document type"),
        (with_("vocabulary/2002-08-01", "vocabulary/2031-01-01"), "line 7: 'Cube' does not belong there"),
        (with_("http://www.gesmes.org", "http://evil.example"), "'Envelope' does not belong"),
        (with_("2024-06-28", "2024-06-31"), "line 8: time: '2024-06-31' is no day"),
        (with_("2024-06-28", "28 June 2024"), "time: '28 June 2024' is no day"),
        (with_("2024-06-28", "2024-06-29"), "time: 2024-06-29 is at a weekend"),
        (with_("2024-06-28", "1998-12-31"), "before 1999-01-04"),
        (with_("time='2024-06-28'", ""), "line 8: its attributes are nothing, not time"),
        (with_("time='2024-06-28'", "time='2024-06-28' date='x'"), "its attributes are date and time, not time"),
        (with_("'USD'", "'usd'"), "line 9: currency: 'usd' is no code of three letters"),
        (with_("'USD'", "'USDX'"), "currency: 'USDX' is no code"),
        (with_("'USD'", "'EUR'"), "currency: 'EUR' is no code of three letters for a currency beside EUR"),
        (with_("'USD'", "'JPY'"), "line 10: currency: JPY is there twice on 2024-06-28"),
        (with_("'1.0705'", "'0'"), "rate: '0' of USD is no positive decimal"),
        (with_("'1.0705'", "'-1.0705'"), "rate: '-1.0705' of USD is no positive decimal"),
        (with_("'1.0705'", "'1,0705'"), "is no positive decimal"),
        (with_("'1.0705'", "'NaN'"), "is no positive decimal"),
        (with_("'1.0705'", "'1e400'"), "is no positive decimal"),
        (with_("'1.0705'", "'\u0661.\u0660'"), "is no positive decimal"),
        (with_("'1.0705'", "''"), "is no positive decimal"),
        (with_(USD, "<Cube currency='USD' rate='1'><Cube currency='JPY' rate='1'/></Cube>"), "'Cube' does not belong"),
        (with_(USD, "<Rate/>"), "'Rate' does not belong there"),
        (with_(USD, "1.0705"), "text among the rates: '1.0705'"),
        (history_file({FRIDAY: {}}), "2024-06-28 has no rates"),
        (history_file({}), "it has no day with rates"),
        (TWICE, "time: 2024-06-28 is there twice"),
        (b" " * 100_001, "it has 100,001 bytes, 100,000 at most were expected"),
    ],
)  # fmt: skip
def test_what_is_no_file_of_the_banks_is_refused_with_the_reason(content: bytes, says: str) -> None:
    with pytest.raises(BadRates) as refused:
        read_rates(content, longest=LONGEST)
    assert says in str(refused.value)


def test_a_comment_after_the_document_is_taken() -> None:
    assert read_rates(RECORDED + b"<!-- a cache was here -->", longest=LONGEST)[0].day == FRIDAY


# -- the calendar


@pytest.mark.parametrize(
    ("day", "working"),
    [
        ("2024-06-28", True),
        ("2024-06-29", False),
        ("2024-06-30", False),
        ("2024-03-29", False),  # Good Friday
        ("2024-04-01", False),  # Easter Monday
        ("2024-04-02", True),
        ("2025-04-18", False),
        ("2025-04-21", False),
        ("2026-04-03", False),
        ("2026-04-06", False),
        ("2026-05-01", False),
        ("2026-12-24", True),
        ("2026-12-25", False),
        ("2027-01-01", False),
        ("2010-12-27", True),
        ("2038-04-26", False),  # as late as Easter can be
    ],
)
def test_the_bank_works_on_weekdays_but_targets_closing_days(day: str, working: bool) -> None:
    assert is_working_day(date.fromisoformat(day)) is working


@pytest.mark.parametrize(
    ("now", "published"),
    [
        ("2024-06-28T15:59:59+02:00", "2024-06-27"),
        ("2024-06-28T16:00:00+02:00", "2024-06-28"),
        ("2024-06-28T14:00:00+00:00", "2024-06-28"),  # summer
        ("2024-12-03T14:30:00+00:00", "2024-12-02"),  # winter
        ("2024-12-03T15:00:00+00:00", "2024-12-03"),
        ("2024-06-30T18:00:00+02:00", "2024-06-28"),
        ("2024-07-01T12:00:00+02:00", "2024-06-28"),
        ("2024-04-01T20:00:00+02:00", "2024-03-28"),
    ],
)
def test_a_day_should_be_there_from_four_oclock_in_frankfurt(now: str, published: str) -> None:
    assert last_published(datetime.fromisoformat(now)) == date.fromisoformat(published)


def test_days_behind_are_counted_in_the_banks_working_days() -> None:
    assert days_behind(FRIDAY, NOON) == 0
    assert days_behind(FRIDAY, datetime(2024, 7, 1, 14, 0, tzinfo=UTC)) == 1
    assert days_behind(date(2024, 3, 28), datetime(2024, 4, 3, 12, tzinfo=UTC)) == 1, "over Easter"
    assert days_behind(date(2024, 6, 20), NOON) == 6


# -- conversion


def test_a_rate_between_two_currencies_goes_by_the_euro() -> None:
    day = rates(FRIDAY, GBP="0.84638", USD="1.0705")
    assert day.cross("GBP", "EUR") == Decimal(1) / Decimal("0.84638")
    assert day.cross("EUR", "GBP") == Decimal("0.84638")
    assert day.cross("GBP", "USD") == Decimal("1.0705") / Decimal("0.84638")
    assert day.cross("GBP", "XAU") is None


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        ("1.005", "EUR", "1.01"),
        ("-1.005", "EUR", "-1.01"),
        ("1.0049999", "EUR", "1.00"),
        ("2.5", "JPY", "3"),
        ("-0.001", "EUR", "0.00"),
        ("1234567.895", "USD", "1234567.90"),
    ],
)
def test_halves_are_rounded_away_from_zero_in_the_currencys_smallest_unit(
    amount: str, currency: str, shown: str
) -> None:
    assert f"{rounded(Decimal(amount), currency):f}" == shown


MONDAY = date(2010, 12, 6)
WEEK = [rates(MONDAY + timedelta(days=n), GBP=f"0.8{n}") for n in range(5)]


@pytest.mark.parametrize(
    ("day", "rate_day", "of_the_day", "stale"),
    [
        (MONDAY, MONDAY, True, False),
        (MONDAY + timedelta(days=5), MONDAY + timedelta(days=4), True, False),  # Saturday takes Friday's
        (MONDAY + timedelta(days=7), MONDAY + timedelta(days=4), False, False),
        (MONDAY + timedelta(days=8), MONDAY + timedelta(days=4), False, False),
        (MONDAY + timedelta(days=9), MONDAY + timedelta(days=4), False, True),
        (MONDAY - timedelta(days=1), MONDAY, False, True),  # only newer ones are stored
    ],
)
def test_a_day_takes_its_own_rate_else_the_newest_before_else_the_oldest_after(
    day: date, rate_day: date, of_the_day: bool, stale: bool
) -> None:
    found = rates_of([day], WEEK, WEEK[0], "GBP", "EUR")[day]
    assert (found.rate_day, found.of_the_day, found.stale) == (rate_day, of_the_day, stale)


# -- the table


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> RatesTable:
    return RatesTable(new_table(dynamodb, f"rates-{uuid.uuid4().hex[:8]}"), dynamodb)


def test_the_same_day_again_is_the_same(table: RatesTable) -> None:
    for expected in (((FRIDAY,), ()), ((), (FRIDAY,))):
        stored = table.keep(read_rates(RECORDED, longest=LONGEST), source="test", at=NOON)
        assert (stored.added, stored.same, stored.differing) == (*expected, ())
    assert table.newest() == read_rates(RECORDED, longest=LONGEST)[0]
    trailing = rates(
        FRIDAY,
        **{
            name: f"{rate:f}0" if "." in f"{rate:f}" else f"{rate:f}"
            for name, rate in table.between(FRIDAY, FRIDAY)[0].rates.items()
        },
    )
    assert table.keep([trailing], source="test", at=NOON).same == (FRIDAY,), "1.50 is 1.5"


def test_other_rates_for_a_stored_day_are_kept_beside_and_count_for_nothing(table: RatesTable) -> None:
    table.keep([rates(FRIDAY, GBP="0.84638")], source="first", at=NOON)
    for _ in range(2):
        stored = table.keep([rates(FRIDAY, GBP="0.9")], source="second", at=NOON)
        assert stored.differing == (FRIDAY,)
    assert table.newest() == rates(FRIDAY, GBP="0.84638")
    (other,) = table.differing()
    assert (other.rates, other.source) == (rates(FRIDAY, GBP="0.9"), "second")
    assert other.reason == "other rates were stored for the day before"


def test_a_person_can_put_other_rates_in_place_and_the_old_ones_are_kept_beside(table: RatesTable) -> None:
    table.keep([rates(FRIDAY, GBP="0.84638")], source="first", at=NOON)
    table.keep([rates(FRIDAY, GBP="0.9")], source="a file", at=NOON, replace=True)
    assert table.newest() == rates(FRIDAY, GBP="0.9")
    (other,) = table.differing()
    assert (other.rates, other.reason) == (rates(FRIDAY, GBP="0.84638"), "replaced by a file")


def test_two_that_store_one_day_at_once_store_it_once(table: RatesTable) -> None:
    client: Any = boto3.client("dynamodb")
    other = RatesTable(table._table, client)
    inside = [False]

    def first(**_: Any) -> None:
        if not inside[0]:
            inside[0] = True
            assert table.keep([rates(FRIDAY, GBP="0.8")], source="first", at=NOON).added == (FRIDAY,)

    client.meta.events.register("before-call.dynamodb.PutItem", first)
    assert other.keep([rates(FRIDAY, GBP="0.9")], source="second", at=NOON).differing == (FRIDAY,)
    assert table.newest() == rates(FRIDAY, GBP="0.8")


def test_a_refusal_of_the_table_is_not_taken_for_a_day_that_is_there(dynamodb: DynamoDBClient) -> None:
    with pytest.raises(ClientError):
        RatesTable("no-such-table", dynamodb)._put(rates(FRIDAY, GBP="1"), "x", NOON, replace=False)


def test_days_find_their_rates_in_the_table(table: RatesTable) -> None:
    table.keep([*WEEK, rates(MONDAY - timedelta(days=3), USD="1.3")], source="test", at=NOON)
    days = [MONDAY - timedelta(days=30), MONDAY, MONDAY + timedelta(days=6), MONDAY + timedelta(days=30)]
    found = table.for_days(days, "GBP", "EUR")
    assert [found[day].rate_day for day in days] == [MONDAY, MONDAY, *[MONDAY + timedelta(days=4)] * 2]
    assert table.for_days(days[2:], "GBP", "EUR")[days[2]].rate_day == MONDAY + timedelta(days=4)
    assert table.for_days(days, "GBP", "XAU") == {}
    assert table.for_days([], "GBP", "EUR") == {}


def test_a_day_without_the_currency_is_passed_over(table: RatesTable) -> None:
    gaps = [
        rates(FRIDAY - timedelta(days=n), USD="1.1") for n in range(14) if (FRIDAY - timedelta(days=n)).weekday() < 5
    ]
    table.keep([rates(date(2024, 6, 3), GBP="0.85"), *gaps], source="test", at=NOON)
    assert table.for_days([FRIDAY], "GBP", "EUR")[FRIDAY].rate_day == date(2024, 6, 3)


# -- the ledger


def invoice(day: date, pounds: str, country: str = "France", product: str = "A") -> Invoice:
    at = datetime(day.year, day.month, day.day, 9, tzinfo=UTC)
    line = OrderLine(product=product, quantity=1, unit_price=Decimal(pounds))
    return OrderPlaced(invoice=f"{day}{country}{product}", invoiced_at=at, country=country, lines=(line,))


def conversion(table: RatesTable, currency: str, *invoices: Invoice) -> Conversion:
    return of_sections(table, sums_of(each.event() for each in invoices), currency)


def shown(found: Conversion, by: By) -> str:
    screen = Screen(file=StringIO(), width=200)
    screen.print(table_of(ledger_of(found.sections), by, 9, found))
    assert isinstance(screen.file, StringIO)
    return screen.file.getvalue() + "\n".join(found.lines())


def test_each_day_of_the_ledger_is_converted_at_its_own_rate_and_rounded_once(table: RatesTable) -> None:
    table.keep([rates(MONDAY, GBP="0.8"), rates(MONDAY + timedelta(days=1), GBP="0.9")], source="test", at=NOON)
    found = conversion(
        table, "EUR", invoice(MONDAY, "10.01"), invoice(MONDAY + timedelta(days=1), "10.01", product="B")
    )
    document = json.loads(json.dumps(document_of(ledger_of(found.sections), found)))
    assert document["currency"] == "EUR"
    assert document["by_day"] == {
        "2010-12-06": {"revenue": "12.51", "units": 1, "orders": 1, "cancellations": 0},
        "2010-12-07": {"revenue": "11.12", "units": 1, "orders": 1, "cancellations": 0},
    }
    assert document["revenue"] == "23.63", "12.5125 + 11.1222…"
    assert document["by_country"]["France"]["revenue"] == "23.63"
    assert (document["converted"]["of_the_day"], document["converted"]["stale"]) == (True, False)
    assert [each["rate_of"] for each in document["converted"]["rates"]] == ["2010-12-06", "2010-12-07"]
    text = shown(found, By.DAY)
    assert "revenue EUR" in text
    assert "2 days at the rate of the day: 1.111111 to 1.250000" in text
    assert "STALE" not in text


def test_rows_need_not_add_up_and_the_total_is_the_exact_ones(table: RatesTable) -> None:
    table.keep([rates(MONDAY, GBP="3")], source="test", at=NOON)
    found = conversion(table, "EUR", invoice(MONDAY, "0.01", "France"), invoice(MONDAY, "0.01", "Spain", "B"))
    document = document_of(ledger_of(found.sections), found)
    assert [row["revenue"] for row in document["by_country"].values()] == ["0.00", "0.00"]
    assert document["revenue"] == "0.01"


def test_with_newer_rates_only_it_says_which_was_taken_and_that_it_is_not_of_the_day(table: RatesTable) -> None:
    table.keep(read_rates(RECORDED, longest=LONGEST), source="test", at=NOON)
    found = conversion(table, "EUR", *(invoice(MONDAY + timedelta(days=n), "100", product=str(n)) for n in range(3)))
    text = shown(found, By.DAY)
    assert (
        "STALE, not of the day: 3 days (2010-12-06 to 2010-12-08) at 1.181502, the rate of 2024-06-28, which is newer: "
        "no older one is stored"
    ) in text
    converted = document_of(ledger_of(found.sections), found)["converted"]
    assert (converted["stale"], converted["of_the_day"]) == (True, False)
    assert converted["rates"] == [
        {
            "first": "2010-12-06",
            "last": "2010-12-08",
            "days": 3,
            "rate_of": "2024-06-28",
            "rate": f"{1 / Decimal('0.84638'):f}",
            "of_the_day": False,
            "stale": True,
        }
    ]


def test_the_shipped_day_in_yen_and_euros(table: RatesTable) -> None:
    from shop.orders import SHIPPED_DAY, read_orders

    day = date(2010, 12, 1)
    table.keep([rates(day, GBP="0.84", JPY="110")], source="test", at=NOON)
    sections = sums_of(each.event() for each in read_orders(SHIPPED_DAY).invoices)
    exact = Decimal("58635.56")
    yen, euros = (of_sections(table, sections, currency) for currency in ("JPY", "EUR"))
    assert document_of(ledger_of(yen.sections), yen)["revenue"] == str(round(exact * 110 / Decimal("0.84")))
    assert document_of(ledger_of(euros.sections), euros)["revenue"] == "69804.24"
    assert len(ledger_of(euros.sections).by_product) > 1000


def test_without_rates_it_says_how_to_get_some(table: RatesTable) -> None:
    with pytest.raises(Failure, match="no exchange rates are stored: offload jobs submit exchange_rates"):
        conversion(table, "EUR", invoice(MONDAY, "1"))
    table.keep([rates(MONDAY, GBP="0.8", USD="1.3")], source="test", at=NOON)
    with pytest.raises(Failure, match=r"no stored day has a rate from GBP to XAU; 2010-12-06 has EUR, USD$"):
        conversion(table, "XAU", invoice(MONDAY, "1"))


def test_an_empty_ledger_needs_no_rates(table: RatesTable) -> None:
    found = conversion(table, "EUR")
    assert document_of(ledger_of(found.sections), found)["revenue"] == "0.00"
    assert list(found.lines()) == []


# -- the commands


@pytest.fixture
def rates_command(table: RatesTable, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `offload rates` on the table."""
    monkeypatch.setattr(Deployment, "of", lambda environment: environment)
    monkeypatch.setattr(rates_commands, "rates_table", lambda _: table)

    def run(*arguments: str) -> Any:
        result = CliRunner().invoke(rates_commands.app, arguments)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def test_an_import_stores_a_files_days_and_shows_them(rates_command: Any, tmp_path: Any) -> None:
    file = tmp_path / "hist.xml"
    file.write_bytes(history_file({each.day: {"GBP": f"{each.rates['GBP']:f}"} for each in WEEK}))
    assert rates_command("import", str(file), "--last", "2010-12-08").stdout == "3 days added, 0 days there before\n"
    assert json.loads(rates_command("import", str(file), "--json").stdout) == {
        "added": ["2010-12-09", "2010-12-10"],
        "same": ["2010-12-06", "2010-12-07", "2010-12-08"],
        "differing": [],
    }
    text = rates_command("show").stdout
    assert "1 EUR on 2010-12-10, STALE: " in text
    assert "GBP         0.84" in text
    found = json.loads(rates_command("show", "--day", "2010-12-11", "--json").stdout)
    assert (found["day"], found["of_the_day"], found["stale"]) == ("2010-12-10", True, False)
    assert (found["oldest"], found["newest"]) == ("2010-12-06", "2010-12-10")
    with pytest.raises(
        Failure, match="no rates of 2010-12-01 or before are stored; the oldest are those of 2010-12-06"
    ):
        rates_command("show", "--day", "2010-12-01")


def test_an_import_says_what_differs_and_replaces_only_when_told(rates_command: Any, tmp_path: Any) -> None:
    file = tmp_path / "daily.xml"
    for rate in ("0.8", "0.9"):
        file.write_bytes(daily_file(MONDAY, {"GBP": rate}))
        said = rates_command("import", str(file)).stdout
    assert "1 day with other rates than are stored, which stay: --replace (2010-12-06)" in said
    assert "differing, not used: 2010-12-06 from file daily.xml" in rates_command("show").stdout
    assert "replaced; what was there is kept beside" in rates_command("import", str(file), "--replace").stdout
    assert json.loads(rates_command("show", "--json").stdout)["rates"] == {"GBP": "0.9"}


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        (b"<html/>", (), "is not a file of the bank's rates: line 1: 'html' does not belong there"),
        (daily_file(MONDAY), ("--first", "2011-01-01"), "has 2010-12-06 to 2010-12-06, and none of the days"),
        (daily_file(MONDAY), ("--first", "soon"), "--first is a day, as 2010-12-01, not 'soon'"),
        (daily_file(MONDAY), ("--last", "2010-13-01"), "--last is a day, as 2010-12-01"),
        (daily_file(today() + timedelta(days=7 - today().weekday())), (), "which is in the future"),
    ],
)
def test_an_import_of_something_else_fails_with_the_reason(
    rates_command: Any, tmp_path: Any, content: bytes, options: tuple[str, ...], says: str
) -> None:
    file = tmp_path / "file.xml"
    file.write_bytes(content)
    with pytest.raises(Failure) as failed:
        rates_command("import", str(file), *options)
    assert says in str(failed.value)


def test_a_file_that_is_not_there_and_a_table_without_rates_are_told(rates_command: Any, tmp_path: Any) -> None:
    with pytest.raises(Failure, match="No such file"):
        rates_command("import", str(tmp_path / "none.xml"))
    with pytest.raises(Failure, match="no exchange rates are stored"):
        rates_command("show")


def test_the_last_working_day_of_a_working_day_is_itself() -> None:
    assert last_working_day(FRIDAY) == FRIDAY
    assert last_working_day(date(2024, 4, 1)) == date(2024, 3, 28)
