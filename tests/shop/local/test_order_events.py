"""Orders through the deployed app: exact figures whatever is sent twice, out of order, broken or killed."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from offload.cli.audit.events import Account, audit
from offload.cli.deployment.resources import Deployment
from offload.cli.deployment.status import depth
from offload.client.publisher import ClaimStore, Publisher
from offload.project import PROJECT
from shop.commands.ledger import ledger_of
from shop.contracts.orders import OrderLine, OrderPlaced
from shop.ledger import Figures
from shop.orders import SHIPPED_DAY, generate, read_orders, write_orders
from tests import copies
from tests.copies import RETRIES, Copy, a_copy
from tests.killed_workers import workers_killed_all_along
from tests.patience import until
from tests.shop.deployed_figures import levels_of
from tests.shop.month import MONTH
from tests.shop.plain_ledger import ledger_of_file

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"


@pytest.fixture
def copy_with_iam(tmp_path: Path, brought_up_with_iam: Path) -> Iterator[Copy]:
    """The same over TLS and with IAM enforced, so that every call needs its role's permission."""
    yield from a_copy(tmp_path / "embedded", brought_up_with_iam, PROJECT, auth=True)


@pytest.fixture
def orders_file(tmp_path: Path) -> Path:
    """A month of real orders where it is at hand and the whole is asked for, else made ones."""
    if WHOLE and MONTH.exists():
        return MONTH
    file = tmp_path / "orders.csv.gz"
    write_orders(file, generate(2010, 2_000 if WHOLE else 250))
    return file


def settled(deployment: Deployment) -> bool:
    """Whether no consumer's queue holds anything.

    Of the team's channel it may: what a worker that was killed had of it comes back after five minutes.
    """
    return copies.settled(deployment, besides=("TeamNotifier",))


def dead_letters(copy: Copy) -> list[dict[str, Any]]:
    """What `offload dead-letters list --json` says."""
    found = copy.offload("dead-letters", "list", "--json")
    assert found.returncode == 0, found.stderr
    letters: list[dict[str, Any]] = json.loads(found.stdout)["dead_letters"]
    return letters


@pytest.mark.long
def test_a_month_is_exact_though_doubled_shuffled_poisoned_and_its_workers_killed(
    copy: Copy, orders_file: Path
) -> None:
    with workers_killed_all_along(copy.embedded, every=0.7, seed=12, most=170 if WHOLE else 20) as killed:
        told = copy.offload(
            "orders", "publish", str(orders_file),
            "--duplicate", "0.2", "--shuffle", "--poison", "0.01", "--seed", "12", "--json",
        )  # fmt: skip
        assert told.returncode == 0, told.stderr
        published = json.loads(told.stdout)
        # A killed worker's batch comes back after its visibility timeout: the killing ends before the last of these.
        killing_ends = time.monotonic() + (120 if WHOLE else 20)
        until(
            lambda: len(killed) >= 5 and (settled(copy.deployment) or time.monotonic() > killing_ends),
            "the killing to end",
        )
    assert len(killed) >= 5
    until(lambda: settled(copy.deployment), "the queues to be empty")
    assert ledger_of(copy.deployment) == ledger_of_file(orders_file)
    poison = Counter((each["id"], each["reason"]) for each in published["poison"])
    assert len(poison) == round(0.01 * len(read_orders(orders_file).invoices))
    letters = dead_letters(copy)
    consumers = ("SalesLedger", "StockLevels", "WebhooksOut/Planner")
    for consumer in consumers:
        own = {(each["event_id"], each["reason"]) for each in letters if each["consumer"] == consumer}
        assert own == set(poison)
    account = audit(copy.deployment)
    assert account.missing == (), what_the_logs_say(copy, account)
    assert account.adds_up
    assert sum(line.dead for line in account.lines) == len(consumers) * len(poison)


def test_december_2010_or_its_first_day_has_the_figures_that_the_data_set_has(copy: Copy, month: Path) -> None:
    figures: list[Any] = ["748957.02", 342_228, 1_699, 326] if WHOLE else ["58635.56", 26_814, 137, 6]
    assert copy.offload("orders", "publish", str(month if WHOLE else SHIPPED_DAY)).returncode == 0
    until(lambda: ledger_of(copy.deployment).total.orders == figures[2], "the orders")
    until(lambda: settled(copy.deployment), "the queues to be empty")
    shown = json.loads(copy.offload("ledger", "show", "--json").stdout)
    assert [shown[key] for key in ("revenue", "units", "orders", "cancellations")] == figures
    assert shown["by_country"]["EIRE"]["revenue"] == ("9029.95" if WHOLE else "555.38")
    levels_agree_with_the_events(copy)


def levels_agree_with_the_events(copy: Copy) -> None:
    """Every level is the opening units less what the ledger sold, and `stock.low` was published for whatever is low."""
    deployment = copy.deployment
    levels = levels_of(deployment)
    sold = {product: figures.units for product, figures in ledger_of(deployment).by_product.items()}
    assert levels == {product: 1_000 - units for product, units in sold.items()}
    marks = deployment.consumer("EventJournal").marks_table
    told = {
        item["pk"]["S"].split("stock.low:")[1].partition(":offload.shop")[0]
        for page in deployment.aws.dynamodb.get_paginator("scan").paginate(TableName=str(marks))
        for item in page["Items"]
        if item.get("type", {}).get("S") == "stock.low"
    }
    low = {product for product, units in levels.items() if units < 100}
    assert low or not WHOLE
    assert low <= told


def test_what_a_fault_killed_is_redriven_after_the_fix_and_counts_once(copy: Copy) -> None:
    client = copy.deployment.aws.lambda_
    function = copy.deployment.function("SalesLedger").function_name
    variables = client.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
    broken = variables | {"LEDGER_TABLE": "no-such-table", "OFFLOAD_ATTEMPTS": "2"}
    client.update_function_configuration(FunctionName=function, Environment={"Variables": broken})
    assert copy.offload("orders", "publish", str(SHIPPED_DAY)).returncode == 0
    count = len(read_orders(SHIPPED_DAY).invoices)
    until(lambda: settled(copy.deployment), "every attempt")
    assert ledger_of(copy.deployment).total == Figures()
    letters = dead_letters(copy)
    assert {(each["consumer"], each["reason"]) for each in letters} == {("SalesLedger", "retries-exhausted")}
    # One that was received a second time while its attempt went on is two dead letters.
    assert len({each["event_id"] for each in letters}) == count
    assert "ResourceNotFoundException" in letters[0]["detail"]
    client.update_function_configuration(FunctionName=function, Environment={"Variables": variables})
    said = copy.offload("dead-letters", "redrive", "--consumer", "SalesLedger", "--reason", "retries-exhausted")
    assert said.returncode == 0, said.stderr
    assert copy.offload("orders", "publish", str(SHIPPED_DAY)).returncode == 0
    until(lambda: settled(copy.deployment), "the redriven to be done")
    assert ledger_of(copy.deployment) == ledger_of_file(SHIPPED_DAY)
    assert dead_letters(copy) == []


def test_an_event_that_vanishes_from_a_queue_is_named_by_the_audit(copy: Copy) -> None:
    consumer = copy.deployment.consumer("SalesLedger")
    aws = copy.deployment.aws
    (mapping,) = aws.lambda_.list_event_source_mappings(FunctionName=consumer.function_name)["EventSourceMappings"]
    aws.lambda_.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
    order = an_order("900001", 1)
    Publisher(copy.deployment.bus, events=aws.events, retries=RETRIES).publish(order.event())
    until(lambda: depth_of(copy.deployment, "SalesLedger") == 1, "the event to wait")
    until(lambda: audit_line(copy.deployment).published == 1, "the journal")
    assert (audit_line(copy.deployment).waiting, audit_line(copy.deployment).missing) == (1, 0)
    aws.sqs.purge_queue(QueueUrl=consumer.queue_url)
    until(lambda: depth_of(copy.deployment, "SalesLedger") == 0, "the purge")
    shown = copy.offload("audit", "--json")
    assert shown.returncode == 1
    document = json.loads(shown.stdout)
    assert not document["adds_up"]
    assert [(each["consumer"], each["event_id"]) for each in document["missing"]] == [("SalesLedger", order.event().id)]


def test_broken_events_cost_no_other_and_the_audit_counts_them_dead_and_then_dropped(copy: Copy) -> None:
    aws = copy.deployment.aws
    detail = json.loads(an_order("900020", 1).event().to_json())
    price = json.loads(json.dumps(detail))
    price["id"], price["data"]["lines"][0]["unit_price"] = "order.placed:900021", "1e1000000"
    named = detail | {"id": "\U0001f600" * 256, "source": "\U0001f600" * 256}
    entries: Any = [
        {
            "EventBusName": copy.deployment.bus,
            "Source": OrderPlaced.SOURCE,
            "DetailType": OrderPlaced.TYPE,
            "Detail": json.dumps(each),
        }
        for each in (detail, price, named)
    ]
    assert aws.events.put_events(Entries=entries)["FailedEntryCount"] == 0
    until(lambda: audit_line(copy.deployment)[2:7] == (3, 1, 0, 2, 0), "one order to be done and two to be dead")
    assert ledger_of(copy.deployment).total == Figures(Decimal(1), 1, 1, 0)

    # As a runtime without bounds left it: the key of its inbox entry is longer than any table's.
    body = json.dumps({"id": "b", "source": "s", "detail-type": "order.placed", "detail": named | {"id": "x" * 3_000}})
    aws.sqs.send_message(QueueUrl=copy.deployment.consumer("SalesLedger").dead_letter_queue_url, MessageBody=body)
    until(lambda: len(dead_letters(copy)) > 0, "the letter")
    document = json.loads(copy.offload("audit", "--json").stdout)
    assert [letter["consumer"] for letter in document["unidentified"]] == ["SalesLedger"]

    chosen = ("--consumer", "SalesLedger", "--reason", "broken-contract")
    dropped = copy.offload("dead-letters", "drop", *chosen, "--because", "a test", "--yes")
    assert dropped.returncode == 0, dropped.stderr
    line = audit_line(copy.deployment)
    assert (line.published, line.done, line.dropped, line.missing) == (3, 1, 2, 0)


def test_a_consumer_that_came_later_owes_nothing_for_what_was_before_it(copy: Copy) -> None:
    aws = copy.deployment.aws
    consumer = copy.deployment.consumer("SalesLedger")
    publisher = Publisher(copy.deployment.bus, events=aws.events, retries=RETRIES)
    early, late = an_order("900011", 1).event(), an_order("900012", 1).event()
    (rule,) = (each for each in copy.deployment.resources if each.path == "SalesLedger/Rule")
    name = rule.physical_id.rpartition("|")[2]
    aws.events.disable_rule(Name=name, EventBusName=copy.deployment.bus)
    publisher.publish(early, late)
    until(lambda: audit_line(copy.deployment).published == 2, "the journal")
    assert audit_line(copy.deployment).missing == 2
    marks = str(copy.deployment.consumer("EventJournal").marks_table)
    created = aws.sqs.get_queue_attributes(QueueUrl=consumer.queue_url, AttributeNames=["CreatedTimestamp"])
    before = int(created["Attributes"]["CreatedTimestamp"]) * 1000 - 1
    aws.dynamodb.update_item(
        TableName=marks,
        Key={"pk": {"S": f"event#offload.shop#{early.id}"}, "sk": {"S": "mark"}},
        UpdateExpression="SET sent = :before",
        ExpressionAttributeValues={":before": {"N": str(before)}},
    )
    account = audit(copy.deployment, pause=lambda _: None)
    assert [each.event_id for each in account.missing if each.consumer == "SalesLedger"] == [late.id]
    assert audit_line(copy.deployment).published == 1


def test_an_order_over_the_limit_of_the_bus_is_counted_like_any_other(copy: Copy) -> None:
    aws = copy.deployment.aws
    order = an_order("900002", 12_000, "a description that makes the order's event longer than the bus can carry")
    assert len(order.event().to_json()) > 1_048_576
    claims = ClaimStore(copy.deployment.bucket("Claims"), s3=aws.s3)
    publisher = Publisher(copy.deployment.bus, events=aws.events, claims=claims, retries=RETRIES)
    publisher.publish(order.event())
    until(lambda: ledger_of(copy.deployment).total.orders == 1, "the large order")
    assert ledger_of(copy.deployment).total == Figures(Decimal(12_000), 12_000, 1, 0)


def test_each_function_works_with_its_own_role_and_not_without_a_grant(copy_with_iam: Copy) -> None:
    copy = copy_with_iam
    assert copy.offload("orders", "publish", str(SHIPPED_DAY)).returncode == 0
    until(lambda: settled(copy.deployment), "the day's orders")
    assert ledger_of(copy.deployment) == ledger_of_file(SHIPPED_DAY)
    assert dead_letters(copy) == []
    account = audit(copy.deployment)
    assert account.adds_up
    orders = [line for line in account.lines if line.event_type.startswith("order.")]
    assert sum(line.done for line in orders) == 3 * len(read_orders(SHIPPED_DAY).invoices)
    aws = copy.deployment.aws
    function = copy.deployment.function("SalesLedger").function_name
    role = aws.lambda_.get_function_configuration(FunctionName=function)["Role"].rpartition("/")[2]
    for policy in aws.iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document: Any = aws.iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        ledger = copy.deployment.table("Ledger")
        kept = [each for each in document["Statement"] if ledger not in json.dumps(each)]
        assert len(kept) == len(document["Statement"]) - 1
        text = json.dumps(document | {"Statement": kept})
        aws.iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=text)
    Publisher(copy.deployment.bus, events=aws.events, retries=RETRIES).publish(an_order("900003", 1).event())

    def denied() -> bool:
        return "AccessDenied" in copy.offload("logs", "SalesLedger").stdout

    until(denied, "AccessDenied in the function's log")
    assert ledger_of(copy.deployment) == ledger_of_file(SHIPPED_DAY)


def what_the_logs_say(copy: Copy, account: Account) -> str:
    """The log lines of every missing event."""
    lines = [f"{len(account.missing)} missing"]
    for missing in account.missing:
        logged = copy.offload("logs", missing.consumer, "--since", "1h", "--json").stdout.splitlines()
        lines += [str(missing), *(line for line in logged if missing.event_id in line)]
    return "\n".join(lines)


def an_order(invoice: str, lines: int, description: str | None = None) -> OrderPlaced:
    """An order with so many lines of one unit at 1.00."""
    return OrderPlaced(
        invoice=invoice,
        invoiced_at=datetime(2011, 1, 4, tzinfo=UTC),
        country="France",
        lines=tuple(
            OrderLine(product=f"p{n % 90}", quantity=1, unit_price=Decimal(1), description=description)
            for n in range(lines)
        ),
    )


def depth_of(deployment: Deployment, consumer: str) -> int:
    """How many messages a consumer's queue holds."""
    return depth(deployment.aws, deployment.consumer(consumer).queue_url).all


def audit_line(deployment: Deployment) -> Any:
    """The audit's line for placed orders in the sales ledger."""
    lines = audit(deployment, pause=lambda _: None).lines
    return next(line for line in lines if (line.consumer, line.event_type) == ("SalesLedger", "order.placed"))
