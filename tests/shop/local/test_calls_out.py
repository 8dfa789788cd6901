"""The shop's two integrations through the deployed app: what the team is told, and the bank's rates by a job."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from offload.cli.jobs.service import jobs_of
from offload.client.publisher import Publisher
from offload.contracts.jobs.job import State
from shop.contracts.jobs.exchange_rates import EXCHANGE_RATES, RatesKept, RatesWanted
from shop.contracts.jobs.sales_report import SALES_REPORT, Period
from shop.contracts.stock import StockLow
from shop.ecb import last_published
from tests.copies import RETRIES, Copy, variables_set
from tests.odd_server import OddServer, answer, odd_server
from tests.patience import PATIENCE, until
from tests.shop.rates_files import daily_file, history_file


@pytest.fixture(scope="module")
def channel(deployed: Copy) -> Iterator[OddServer]:
    """A receiver for what the team is told; its address is in the secret."""
    secrets = deployed.deployment.aws.secrets_manager
    secret = deployed.deployment.one("TeamChannel", "AWS::SecretsManager::Secret").physical_id
    with odd_server(answer(200, b"ok")) as receiver:
        secrets.put_secret_value(SecretId=secret, SecretString=receiver.url("/services/T0/B0/token"))
        # Begun anew by it: one that other tests have used may have looked for the address a moment ago.
        with variables_set(deployed, "team_notifier", {"BEGUN_ANEW": "yes"}):
            yield receiver
        secrets.put_secret_value(SecretId=secret, SecretString="none")


@pytest.fixture
def slack(channel: OddServer) -> OddServer:
    """The receiver, with nothing received."""
    channel.received.clear()
    return channel


def notices(copy: Copy, topic: str) -> dict[str, Any]:
    key: Any = {"pk": {"S": topic}}
    table = copy.deployment.table("Notices/Topics")
    return dict(copy.deployment.aws.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {}))


def begin(copy: Copy, topic: str, *, told_just_now: bool = False) -> None:
    """A topic as in the beginning, or as if the team had been told of something a moment ago."""
    next_at = int((time.time() + 600) * 1000) if told_just_now else 0
    copy.deployment.aws.dynamodb.put_item(
        TableName=copy.deployment.table("Notices/Topics"),
        Item={"pk": {"S": topic}, "version": {"N": "1"}, "next_at": {"N": str(next_at)}},
    )


def let_a_minute_pass(copy: Copy, topic: str) -> None:
    copy.deployment.aws.dynamodb.update_item(
        TableName=copy.deployment.table("Notices/Topics"),
        Key={"pk": {"S": topic}},
        UpdateExpression="SET next_at = :now",
        ExpressionAttributeValues={":now": {"N": "0"}},
    )


def call_each_minute(copy: Copy) -> None:
    """What the schedule does each minute."""
    notifier = copy.deployment.function("team_notifier").function_name
    answer = copy.deployment.aws.lambda_.invoke(FunctionName=notifier, Payload=b"{}")
    assert "FunctionError" not in answer, answer["Payload"].read()


def texts(slack: OddServer) -> list[str]:
    return [json.loads(request.body)["text"] for request in slack.received]


def test_low_stock_that_comes_within_a_minute_is_one_message(deployed: Copy, slack: OddServer) -> None:
    begin(deployed, StockLow.TYPE, told_just_now=True)
    cause, at = uuid.uuid4().hex, datetime.now(UTC)
    events = [
        StockLow(product=f"P{number:02}", units=number, low_below=100, cause=cause, caused_at=at).event()
        for number in range(12)
    ]
    # Each twice: it is told once.
    Publisher(deployed.deployment.bus, events=deployed.deployment.aws.events, retries=RETRIES).publish_many(events * 2)

    def collected() -> bool:
        return notices(deployed, StockLow.TYPE).get("open_count") == {"N": "12"}

    until(collected, "the events")
    assert slack.received == []
    let_a_minute_pass(deployed, StockLow.TYPE)
    for _ in range(3):
        call_each_minute(deployed)
    until(lambda: bool(slack.received), "the message")
    (request,) = slack.received
    assert (request.method, request.path) == ("POST", "/services/T0/B0/token")
    message = json.loads(request.body)
    assert message["text"].startswith("Stock is low: 12. P")
    assert "… and 2 more" in json.dumps(message, ensure_ascii=False)
    assert "may have been told" not in json.dumps(message)


def test_a_job_that_fails_is_told_at_once_and_one_that_succeeds_is_not(deployed: Copy, slack: OddServer) -> None:
    begin(deployed, "job.finished")
    with jobs_of(deployed.deployment) as jobs:
        good = jobs.submit(SALES_REPORT, Period())
        bad = jobs.submit(SALES_REPORT, Period(first=date(2011, 1, 6), last=date(2011, 1, 5)))
        assert (good.wait(PATIENCE).state, bad.wait(PATIENCE).state) == (State.SUCCEEDED, State.FAILED)
        until(lambda: bool(slack.received), "the message")

        def told_of() -> bool:
            if bad.id in "".join(texts(slack)):
                return True
            # A job of another test failed first, and was told at once: this one is in the next minute's message.
            let_a_minute_pass(deployed, "job.finished")
            call_each_minute(deployed)
            return False

        until(told_of, "the message of the job")
        assert good.id not in "".join(texts(slack))


def test_an_operator_sees_third_parties_and_sets_their_credentials(
    deployed: Copy, slack: OddServer, tmp_path: Path
) -> None:
    def listed(name: str) -> dict[str, Any]:
        shown = deployed.offload("integrations", "list", "--json")
        assert shown.returncode == 0, shown.stderr
        return next(each for each in json.loads(shown.stdout)["third_parties"] if each["third_party"] == name)

    secrets, dynamodb = deployed.deployment.aws.secrets_manager, deployed.deployment.aws.dynamodb
    secret = deployed.deployment.one("TeamChannel", "AWS::SecretsManager::Secret").physical_id
    # What CloudFormation generated in the beginning.
    secrets.put_secret_value(SecretId=secret, SecretString='{"unset": "generated"}')
    assert listed("slack")["credentials"] == "missing"
    assert listed("ecb") == {
        "third_party": "ecb",
        "stack": "offload-local-shop",
        "per_second": 1.0,
        "credentials": "none",
        "circuit": "closed",
        "open_until": None,
        "functions": ["exchange_rates"],
    }
    file = tmp_path / "hook.txt"
    file.write_text(slack.url("/services/T0/B0/token") + "\n")
    done = deployed.offload("integrations", "credentials", "slack", "--file", str(file))
    assert done.returncode == 0, done.stderr
    assert secrets.get_secret_value(SecretId=secret)["SecretString"] == slack.url("/services/T0/B0/token")
    assert listed("slack")["credentials"] == "set"
    table, key = deployed.deployment.table("Calls"), {"pk": {"S": "breaker#slack"}}
    dynamodb.put_item(TableName=table, Item={**key, "until": {"N": str(time.time() + 60)}})
    assert listed("slack")["circuit"] == "open"
    dynamodb.delete_item(TableName=table, Key=key)
    for third_party, says in (("ecb", "needs no credentials"), ("ebc", "ecb, slack")):
        refused = deployed.offload("integrations", "credentials", third_party, "--file", str(file))
        assert refused.returncode == 1
        assert says in refused.stderr


def test_the_job_fetches_the_bank_s_day_and_the_ledger_can_be_shown_by_it(deployed: Copy) -> None:
    day = last_published(datetime.now(UTC))
    with odd_server(answer(200, daily_file(day))) as bank:
        # The first time the history is fetched too.
        bank.script += [answer(200, daily_file(day)), answer(200, history_file({day: {"GBP": "0.84638"}}))]
        changes = {"RATES_DAILY_URL": bank.url("/daily.xml"), "RATES_HISTORY_URL": bank.url("/hist-90d.xml")}
        with variables_set(deployed, "exchange_rates", changes), jobs_of(deployed.deployment) as jobs:
            first = jobs.submit(EXCHANGE_RATES, RatesWanted()).result(PATIENCE)
            again = jobs.submit(EXCHANGE_RATES, RatesWanted()).result(PATIENCE)
    assert first == RatesKept(newest=day, working_days_behind=0, added=1, differing=0)
    assert again == RatesKept(newest=day, working_days_behind=0, added=0, differing=0)
    assert [request.path for request in bank.received] == ["/daily.xml", "/hist-90d.xml", "/daily.xml"]
    shown = deployed.offload("rates", "show", "--json")
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["rates"]["GBP"] == "0.84638"
    ledger = deployed.offload("ledger", "show", "--currency", "EUR", "--json")
    assert ledger.returncode == 0, ledger.stderr
    assert json.loads(ledger.stdout)["currency"] == "EUR"
