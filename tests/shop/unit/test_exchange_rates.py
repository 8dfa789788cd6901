"""The job that fetches the bank's rates: against a server that behaves, and one that does everything else."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import msgspec
import pytest

from lambdas.exchange_rates.plausible import Implausible, check, has_gap
from offload.contracts.calls import CallSettings, variable_of
from offload.contracts.egress import variables
from offload.contracts.jobs.job import Job, State
from offload.project import PROJECT
from offload.runtime.jobs.schedules import next_fires
from shop.contracts.jobs.exchange_rates import EXCHANGE_RATES, RatesKept, RatesWanted
from shop.ecb import DayRates, last_published, last_working_day, read_rates, today
from shop.rates import STALE_AFTER, RatesTable
from tests.conftest import new_table
from tests.odd_server import Behaviour, OddServer, answer, flood, hang, odd_server, raw, reset
from tests.shop.rates_files import DAILY, daily_file, history_file
from tests.shop.unit.shop_jobs import ShopJobs

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

SHOP: Final = PROJECT / "tests/shop/snapshots/__snapshots__/test_templates/offload-prod-shop.json"
USUAL: Final = {"USD": "1.0705", "GBP": "0.84638"}
FRIDAY = date(2024, 6, 28)


def working_days_up_to(day: date, count: int) -> list[date]:
    """So many of the bank's working days, the newest first."""
    found = [last_working_day(day)]
    while len(found) < count:
        found.append(last_working_day(found[-1] - timedelta(days=1)))
    return found


def rates(day: date, **units: str) -> DayRates:
    return DayRates(day, {currency: Decimal(rate) for currency, rate in units.items()})


@pytest.mark.parametrize(
    ("days", "newest", "says"),
    [
        ([rates(date(2024, 7, 2), GBP="1")], None, "rates of 2024-07-02, and it is 2024-07-01"),
        ([rates(date(2024, 6, 27), GBP="0.85")], rates(FRIDAY, GBP="0.84"), "rates of 2024-06-27 at the newest, and"),
        ([rates(date(2024, 7, 1), GBP="8.4")], rates(FRIDAY, GBP="0.84"), "1 EUR is 8.4 GBP on 2024-07-01, after 0.84"),
        ([rates(date(2024, 7, 1), GBP="0.4")], rates(FRIDAY, GBP="0.84"), "`offload rates import` takes it"),
        ([rates(date(2024, 7, 1), GBP="0.42")], rates(FRIDAY, GBP="0.84"), None),
        ([rates(date(2024, 7, 1), GBP="1.68")], rates(FRIDAY, GBP="0.84"), None),
        ([rates(date(2024, 7, 1), TRY="350")], rates(date(2024, 5, 31), TRY="35"), "350 TRY"),
        ([rates(date(2024, 7, 1), TRY="350")], rates(date(2024, 5, 30), TRY="35"), None),
        ([rates(FRIDAY, GBP="0.84")], rates(FRIDAY, GBP="0.84"), None),
        ([rates(date(2024, 7, 1), ISK="150")], rates(FRIDAY, GBP="0.84"), None),
    ],
)
def test_rates_that_cannot_be_true_are_refused(days: list[DayRates], newest: DayRates | None, says: str | None) -> None:
    if says is None:
        check(days, newest, date(2024, 7, 1))
        return
    with pytest.raises(Implausible) as refused:
        check(days, newest, date(2024, 7, 1))
    assert says in str(refused.value)


@pytest.mark.parametrize(
    ("newest", "day", "gap"),
    [
        (None, "2024-06-28", True),
        ("2024-06-27", "2024-06-28", False),
        ("2024-06-28", "2024-06-28", False),
        ("2024-06-26", "2024-06-28", True),
        ("2024-06-28", "2024-07-01", False),  # a weekend
        ("2024-03-28", "2024-04-02", False),  # Easter
        ("2024-03-27", "2024-04-02", True),
    ],
)
def test_a_missing_working_day_is_a_gap(newest: str | None, day: str, gap: bool) -> None:
    stored = None if newest is None else rates(date.fromisoformat(newest), GBP="1")
    assert has_gap(stored, date.fromisoformat(day)) is gap


def test_it_is_scheduled_on_weekdays_after_the_bank_has_published() -> None:
    assert EXCHANGE_RATES.schedule is not None
    fires = next_fires(EXCHANGE_RATES.schedule, datetime(2024, 6, 27, 12, tzinfo=UTC), shown=3)
    assert [fire.isoformat() for fire in fires] == [
        "2024-06-27T14:15:00+00:00",
        "2024-06-28T14:15:00+00:00",
        "2024-07-01T14:15:00+00:00",
    ]
    (winter,) = next_fires(EXCHANGE_RATES.schedule, datetime(2024, 12, 3, 12, tzinfo=UTC), shown=1)
    assert winter.isoformat() == "2024-12-03T15:15:00+00:00"


def test_the_alarm_goes_off_when_rates_are_stale() -> None:
    alarms = [
        resource["Properties"]
        for name, resource in json.loads(SHOP.read_bytes())["Resources"].items()
        if name.startswith("RatesStaleAlarm")
    ]
    assert [(alarm["ComparisonOperator"], alarm["Threshold"]) for alarm in alarms] == [
        ("GreaterThanThreshold", STALE_AFTER)
    ]


@dataclass
class Bank:
    """The job with a bank of its own."""

    jobs: ShopJobs
    daily: OddServer
    history: OddServer
    table: RatesTable
    capture: Any

    def publish(self, day: date, **units: str) -> None:
        """What the bank has from now on."""
        self.daily.otherwise = answer(200, daily_file(day, units or USUAL), {"Content-Type": "text/xml"})

    def result(self, *, history: bool = False) -> RatesKept:
        return self.jobs.result(EXCHANGE_RATES, RatesWanted(history=history))

    def attempt(self) -> Job:
        return self.jobs.attempt(EXCHANGE_RATES, RatesWanted())

    def store(self, *days: DayRates) -> None:
        self.table.keep(days, source="test", at=datetime.now(UTC))

    def logged(self, message: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.capture.readouterr().out.splitlines() if line.startswith("{")]
        return [line for line in lines if line["message"] == message]


@pytest.fixture
def newest() -> date:
    """The day that the bank has published last."""
    return last_published(datetime.now(UTC))


@pytest.fixture
def bank(
    dynamodb: DynamoDBClient, sqs: SQSClient, monkeypatch: pytest.MonkeyPatch, newest: date, capsys: Any
) -> Iterator[Bank]:
    name = f"rates-{uuid.uuid4().hex[:10]}"
    table = new_table(dynamodb, name)
    call = CallSettings(
        table=new_table(dynamodb, f"{name}-calls", sort_key=False),
        attempts=1,
        connect_seconds=1,
        read_seconds=1,
        total_seconds=2,
        longest_body=500_000,
    )
    with odd_server(answer(503)) as daily, odd_server(answer(503)) as history:
        for variable, value in {
            "RATES_TABLE": table,
            "RATES_DAILY_URL": daily.url("/stats/eurofxref/eurofxref-daily.xml"),
            "RATES_HISTORY_URL": history.url("/stats/eurofxref/eurofxref-hist-90d.xml"),
            variable_of("ecb"): msgspec.json.encode(call).decode(),
            **variables(["127.0.0.0/8"], ["http"], "any"),
        }.items():
            monkeypatch.setenv(variable, value)
        jobs = ShopJobs(dynamodb, sqs, monkeypatch, functions=("exchange_rates",))
        found = Bank(jobs, daily, history, RatesTable(table, dynamodb), capsys)
        found.publish(newest)
        yield found
    sys.modules.pop("lambdas.exchange_rates.handler", None)


def test_the_recorded_file_is_stored_whole_and_the_same_day_again_is_the_same(bank: Bank, newest: date) -> None:
    day, before = working_days_up_to(newest, 2)
    bank.store(rates(before, **USUAL))
    bank.daily.otherwise = answer(200, daily_file(day))
    assert bank.result() == RatesKept(newest=day, working_days_behind=0, added=1, differing=0)
    assert bank.result() == RatesKept(newest=day, working_days_behind=0, added=0, differing=0)
    stored = bank.table.newest()
    assert stored is not None
    assert stored.rates == read_rates(DAILY.read_bytes(), longest=10_000)[0].rates
    assert bank.history.received == [], "nothing was missing"
    assert [request.path for request in bank.daily.received] == ["/stats/eurofxref/eurofxref-daily.xml"] * 2


def test_days_that_were_missed_come_from_the_history(bank: Bank, newest: date) -> None:
    days = working_days_up_to(newest, 6)
    bank.store(rates(days[5], **USUAL))
    bank.history.otherwise = answer(200, history_file(dict.fromkeys(days[1:], USUAL)))
    assert bank.result() == RatesKept(newest=newest, working_days_behind=0, added=5, differing=0)
    assert [each.day for each in bank.table.between(days[5], newest)] == days[::-1]


def test_the_first_time_the_history_is_fetched_and_when_it_is_asked_for(bank: Bank, newest: date) -> None:
    days = working_days_up_to(newest, 4)
    bank.history.otherwise = answer(200, history_file(dict.fromkeys(days[:3], USUAL)))
    assert bank.result().added == 3
    bank.history.otherwise = answer(200, history_file(dict.fromkeys(days, USUAL)))
    assert bank.result().added == 0
    assert bank.result(history=True).added == 1


@pytest.mark.parametrize("act", [answer(503), answer(200, b"<html/>"), hang(), flood(), reset()])
def test_without_the_history_the_day_is_stored_all_the_same(bank: Bank, act: Behaviour, newest: date) -> None:
    bank.history.otherwise = act
    assert bank.result() == RatesKept(newest=newest, working_days_behind=0, added=1, differing=0)
    assert bank.logged("history")[0]["outcome"] == "failed"


def test_other_rates_for_a_stored_day_are_warned_of_and_kept_beside(bank: Bank, newest: date) -> None:
    bank.store(rates(newest, **USUAL))
    bank.publish(newest, GBP="0.85")
    assert bank.result() == RatesKept(newest=newest, working_days_behind=0, added=0, differing=1)
    (warned,) = bank.logged("rates differ")
    assert (warned["level"], warned["day"]) == ("WARNING", newest.isoformat())
    assert bank.table.newest() == rates(newest, **USUAL)
    assert bank.table.differing()[0].rates == rates(newest, GBP="0.85")


def test_a_day_that_is_not_there_yet_is_looked_for_again_in_a_quarter_of_an_hour(bank: Bank, newest: date) -> None:
    before = working_days_up_to(newest, 2)[1]
    bank.publish(before)
    job = bank.attempt()
    assert job.state is State.WAITING
    assert job.run_at is not None
    wait = job.run_at - datetime.now(UTC)
    assert timedelta(minutes=14) < wait <= timedelta(minutes=15)
    assert f"the rates of {newest} are not there, but of {before}" in job.history[-1].why
    stored = bank.table.newest()
    assert stored is not None
    assert stored.day == before, "what there is is stored"


def test_the_last_attempt_says_how_far_behind_the_bank_is(bank: Bank, newest: date) -> None:
    day = working_days_up_to(newest, STALE_AFTER + 2)[-1]
    bank.publish(day)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules["lambdas.exchange_rates.handler"], "_is_last", lambda run: True)
        assert bank.result().working_days_behind == STALE_AFTER + 1
    (line,) = bank.logged("rates")
    assert line["rates_days_behind"] == STALE_AFTER + 1
    assert line["level"] == "WARNING"


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]><lolz>&c;</lolz>'
)
TODAYS = daily_file(last_published(datetime.now(UTC)))


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (hang(), "NotAnswered: ecb: GET 127.0.0.1: "),
        (reset(), "NotAnswered: ecb: GET 127.0.0.1: "),
        (raw(b"220 mail.example ESMTP ready\r\n"), "NotAnswered: ecb: GET 127.0.0.1: a broken response"),
        (flood(), "TooLarge: ecb: GET 127.0.0.1: its body is longer than 500000 bytes"),
        (answer(200, b"x" * 600_000), "TooLarge: ecb: GET 127.0.0.1: its body has 600000 bytes"),
        (answer(200, TODAYS[:900], length=len(TODAYS)), "NotAnswered: ecb: GET 127.0.0.1: "),
        (answer(200, TODAYS[:900]), "BadRates: not XML: "),
        (answer(200, b""), "BadRates: not XML: no element found"),
        (answer(200, b"<!DOCTYPE html><html>Down for maintenance</html>"), "BadRates: line 1: it declares a document"),
        (answer(200, b"<html>Down for maintenance</html>"), "BadRates: line 1: 'html' does not belong there"),
        (answer(200, BOMB), "BadRates: line 1: it declares a document type"),
        (answer(200, TODAYS.replace(b"'1.0705'", b"'1,0705'")), "BadRates: line 9: rate: '1,0705' of USD is no"),
        (answer(200, daily_file(last_working_day(today() + timedelta(days=12)))), "Implausible: rates of "),
        (answer(500), "Unsuccessful: ecb: GET 127.0.0.1: status 500"),
        (answer(404), "Unsuccessful: ecb: GET 127.0.0.1: status 404"),
        (
            answer(429, b"", {"Retry-After": "60"}),
            "RateLimited: ecb: GET 127.0.0.1: status 429, and asks to wait 60 s",
        ),
        (answer(302, b"", {"Location": "http://169.254.169.254/latest/"}), "AddressRefused: "),
    ],
)
def test_whatever_else_the_server_does_fails_the_attempt_and_stores_nothing(
    bank: Bank, act: Behaviour, says: str
) -> None:
    bank.daily.otherwise = act
    job = bank.attempt()
    assert job.state is State.WAITING, "it is tried again"
    assert says in job.history[-1].why
    assert bank.table.newest() is None


def test_an_attempt_that_failed_says_how_old_the_stored_rates_are(bank: Bank, newest: date) -> None:
    bank.store(rates(working_days_up_to(newest, 6)[-1], **USUAL))
    bank.daily.otherwise = answer(503)
    bank.attempt()
    (line,) = bank.logged("rates")
    assert (line["level"], line["rates_days_behind"]) == ("WARNING", 5)


def test_a_rate_that_jumps_is_not_stored(bank: Bank, newest: date) -> None:
    day, before = working_days_up_to(newest, 2)
    bank.store(rates(before, **USUAL))
    bank.publish(day, USD="10.705", GBP="0.84638")
    assert "Implausible: 1 EUR is 10.705 USD" in bank.attempt().history[-1].why
    assert bank.table.newest() == rates(before, **USUAL)


def test_a_file_older_than_what_is_stored_is_not_taken(bank: Bank, newest: date) -> None:
    day, before = working_days_up_to(newest, 2)
    bank.store(rates(day, **USUAL))
    bank.publish(before)
    assert f"Implausible: rates of {before} at the newest" in bank.attempt().history[-1].why


def test_the_job_succeeds_once_the_server_is_well_again(bank: Bank, newest: date) -> None:
    bank.daily.script.append(answer(500))
    assert bank.attempt().state is State.WAITING
    assert bank.result().newest == newest
