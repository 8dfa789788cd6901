"""Publishing orders: what reaches a real bus, and what the commands say."""

from __future__ import annotations

import gzip
import json
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Consumer, Deployment
from offload.cli.events.journal import JOURNAL
from offload.cli.local.process import Instance
from offload.cli.main import app
from offload.cli.terminal.screen import Screen
from offload.contracts.events.event import BrokenContract, Event, by_type, data_digest, read_envelope
from offload.runtime.events.consumer import mark_key
from offload.runtime.reasons import Reason
from shop.catalogue import CATALOGUE
from shop.commands.ledger import By, document_of, table_of
from shop.commands.publishing import POISON_KINDS, Broken, Mix, mixed, publish
from shop.contracts.orders import OrderLine, OrderPlaced
from shop.ledger import Figures, Ledger
from shop.money import money
from shop.orders import SHIPPED_DAY, generate, read_orders
from tests.conftest import new_table
from tests.patience import queue_without_redelivery

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
GOOD = "536365,85123A,WHITE HANGING HEART,6,2010-12-01 08:26:00,2.55,17850.0,United Kingdom\n"
RUNNER = CliRunner()
INVOICES = tuple(generate(1, 200))


class Bare(Deployment):
    """A bus and a bucket that were made by hand, in place of deployed stacks; everything is real but the look-up."""

    journal: tuple[Consumer, ...] = ()

    def consumers(self) -> tuple[Consumer, ...]:
        return self.journal

    @property
    def bus(self) -> str:
        return "orders-bus"

    def bucket(self, name: str) -> str:
        assert name == "Claims"
        return "orders-claims"


@pytest.fixture(scope="module")
def published_queue(emulator: Instance) -> str:
    """A queue that gets everything the bus takes."""
    clients = Aws("local", emulator)
    clients.events.create_event_bus(Name="orders-bus")
    clients.s3.create_bucket(Bucket="orders-claims")
    url = queue_without_redelivery(clients.sqs, "orders-published")
    arn = clients.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    clients.events.put_rule(Name="orders-all", EventBusName="orders-bus", EventPattern='{"source": ["offload.shop"]}')
    clients.events.put_targets(Rule="orders-all", EventBusName="orders-bus", Targets=[{"Id": "queue", "Arn": arn}])
    return url


@pytest.fixture
def deployment(emulator: Instance, published_queue: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bare]:
    bare = Bare(Aws("local", emulator))
    monkeypatch.setattr(resources.Deployment, "of", staticmethod(lambda _: bare))
    yield bare
    received(bare, published_queue)


def received(deployment: Deployment, url: str) -> list[dict[str, Any]]:
    """What the bus passed on, in its order; the queue is empty afterwards."""
    messages: list[dict[str, Any]] = []
    while found := deployment.aws.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        messages += [json.loads(message["Body"]) for message in found]
        for message in found:
            deployment.aws.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return messages


def ran(*arguments: str, stdin: str | None = None) -> Result:
    return RUNNER.invoke(app, arguments, input=stdin)


def refusal(*arguments: str, stdin: str | None = None) -> str:
    result = ran(*arguments, stdin=stdin)
    assert isinstance(result.exception, Failure), result.output
    assert "\n" not in str(result.exception)
    return str(result.exception)


def test_a_mix_adds_the_shares_asked_for_and_loses_no_invoice() -> None:
    publications = mixed(INVOICES, Mix(duplicate=0.2, shuffle=True, poison=0.07, seed=4), "claims")
    events = [each for each in publications if isinstance(each, Event)]
    broken = [each for each in publications if isinstance(each, Broken)]
    counts = Counter(event.id for event in events)
    assert len(counts) == 200
    assert Counter(counts.values()) == {1: 160, 2: 40}
    assert len(broken) == 14


def test_without_shuffle_the_order_is_the_file_s_and_a_repeat_comes_after_its_original() -> None:
    publications = mixed(INVOICES, Mix(duplicate=0.5, poison=0.1, seed=4), "claims")
    ids = [each.id for each in publications if isinstance(each, Event)]
    assert list(dict.fromkeys(ids)) == [invoice.event().id for invoice in INVOICES]


def test_shuffle_changes_the_order_and_a_seed_repeats_it() -> None:
    first, again, other = (
        [each.id for each in mixed(INVOICES, Mix(shuffle=True, poison=0.1, seed=seed), "claims")] for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first != [invoice.event().id for invoice in INVOICES]


def test_every_kind_of_poison_breaks_what_it_says_and_has_an_id_of_its_own() -> None:
    broken = [each for each in mixed(INVOICES, Mix(poison=0.21), "claims") if isinstance(each, Broken)]
    assert {each.kind for each in broken} == set(POISON_KINDS)
    assert {each.event_type for each in broken} == {"order.placed", "order.cancelled"}
    ids = [each.id for each in broken if each.id]
    assert len(set(ids)) == len(ids)
    assert not set(ids) & {invoice.event().id for invoice in INVOICES}
    for each in broken:
        detail = json.dumps(each.detail).encode()
        if each.reason is Reason.CLAIM_MISSING:
            dataref = read_envelope(detail).dataref
            assert isinstance(dataref, str)
            assert dataref.startswith("s3://claims/claims/")
        else:
            with pytest.raises(BrokenContract):
                read_envelope(detail).event(by_type(CATALOGUE.event_types))


def test_everything_reaches_the_bus_and_the_outcome_counts_it(deployment: Deployment, published_queue: str) -> None:
    outcome = publish(deployment, INVOICES, Mix(duplicate=0.1, shuffle=True, poison=0.05, seed=9))
    assert (outcome.events, outcome.duplicates, len(outcome.poison)) == (200, 20, 10)
    assert outcome.cancelled == sum(invoice.TYPE == "order.cancelled" for invoice in INVOICES)
    messages = received(deployment, published_queue)
    assert len(messages) == 230
    poison = {each.id for each in outcome.poison}
    # A broken event without an id of its own is known by the bus's.
    arrived = [message["detail"].get("id", f"bus:{message['id']}") for message in messages]
    assert set(arrived) == poison | {invoice.event().id for invoice in INVOICES}
    assert all(isinstance(message["detail"], dict) for message in messages)


def test_a_rate_paces_the_publication(deployment: Deployment) -> None:
    pauses: list[float] = []
    publish(deployment, INVOICES, rate=100, sleep=pauses.append)
    assert len(pauses) == 20
    # Nothing really slept, so the last portion of ten was due almost 1.9 s after the first.
    assert 0.5 < pauses[-1] < 1.9


def test_the_command_publishes_a_file_and_says_so_as_json(deployment: Deployment, published_queue: str) -> None:
    result = ran("orders", "publish", str(SHIPPED_DAY), "--poison", "0.05", "--seed", "5", "--json")
    document = json.loads(result.stdout)
    assert (document["events"], document["placed"], document["cancelled"]) == (143, 137, 6)
    assert document["duplicates"] == 0
    assert document["bad_rows"] == []
    assert [set(each) for each in document["poison"]] == [{"id", "kind", "reason"}] * 7
    assert len(received(deployment, published_queue)) == 150


def test_the_command_names_what_was_published_before_with_other_data(
    deployment: Bare, published_queue: str, tmp_path: Path
) -> None:
    table = new_table(deployment.aws.dynamodb, f"journal-{uuid.uuid4().hex[:8]}")
    deployment.journal = (Consumer("EventJournal", JOURNAL, (), "", "", None, "", "", table, "offload-local-platform"),)
    event = OrderPlaced(
        invoice="536365",
        invoiced_at=datetime(2010, 12, 1, 8, 26, tzinfo=UTC),
        country="France",
        lines=(OrderLine(product="85123A", quantity=6, unit_price=Decimal("2.55")),),
    ).event()
    entry = {**mark_key(event.key), "digest": {"S": data_digest(read_envelope(event.to_json()))}}
    deployment.aws.dynamodb.put_item(TableName=table, Item=entry)
    orders = tmp_path / "orders.csv"
    orders.write_text(HEADER + GOOD + GOOD.replace("536365", "536366"), encoding="utf-8")

    document = json.loads(ran("orders", "publish", str(orders), "--json").stdout)
    assert (document["events"], document["conflicts"]) == (2, ["order.placed:536365"])
    shown = " ".join(ran("orders", "publish", str(orders)).stdout.split())
    assert "1 of them were published before with other data, and consumers keep the first: order.placed:536365" in shown
    assert len(received(deployment, published_queue)) == 4


def test_a_bad_row_publishes_nothing_until_told_to_go_on(
    deployment: Deployment, published_queue: str, tmp_path: Path
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(HEADER + GOOD + GOOD.replace("536365", "536366").replace(",6,", ",six,"))
    said = refusal("orders", "publish", str(file))
    assert "row 3, Quantity: 'six' is not a whole number (invoice 536366)" in said
    assert "--skip-bad" in said
    assert received(deployment, published_queue) == []
    result = ran("orders", "publish", str(file), "--skip-bad")
    assert "left out: row 3, Quantity" in result.stdout
    assert "1 invoices left out for 1 bad rows" in result.stdout
    assert [message["detail"]["subject"] for message in received(deployment, published_queue)] == ["536365"]


def test_an_invoice_that_no_consumer_could_read_publishes_nothing_of_the_file(
    deployment: Bare, published_queue: str, tmp_path: Path
) -> None:
    file = tmp_path / "orders.csv"
    file.write_text(HEADER + GOOD + GOOD.replace("536365", "9" * 250))
    assert "row 3, InvoiceNo: longer than 240 characters" in refusal("orders", "publish", str(file))
    too_large = replace(INVOICES[0], lines=INVOICES[0].lines * (400_000 // len(INVOICES[0].lines)))
    with pytest.raises(Failure, match=r"the limit is 16,777,216: make several of it\. Nothing was published"):
        publish(deployment, [*INVOICES[1:3], too_large])
    assert received(deployment, published_queue) == []


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    assert "No such file" in refusal("orders", "publish", str(tmp_path / "absent.csv"))


def test_generate_writes_the_same_file_for_the_same_seed(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.csv.gz", "b.csv.gz", "c.csv")]
    for file in files:
        assert ran("orders", "generate", "--seed", "3", "--count", "50", "--out", str(file)).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert gzip.decompress(files[0].read_bytes()) == files[2].read_bytes()
    assert len(read_orders(files[0]).invoices) == 50
    assert "No such file" in refusal("orders", "generate", "--seed", "3", "--count", "1", "--out", "/absent/x.csv")


LOW = {"product": "22423", "units": 2, "low_below": 5, "cause": "order.placed:1", "caused_at": "2010-12-01T08:26:00Z"}


def test_one_event_is_published_from_its_data(deployment: Deployment, published_queue: str, tmp_path: Path) -> None:
    file = tmp_path / "low.json"
    file.write_text(json.dumps(LOW))
    for arguments, stdin in ((("--data", str(file)), None), (("--data", "-"), json.dumps(LOW))):
        result = ran("events", "publish", "stock.low", *arguments, "--json", stdin=stdin)
        assert json.loads(result.stdout)["id"] == "stock.low:22423:offload.shop:order.placed:1"
    published = LOW | {"cause_source": "offload.shop"}
    assert [message["detail"]["data"] for message in received(deployment, published_queue)] == [published, published]


@pytest.mark.parametrize(
    ("event_type", "data", "told"),
    [
        (
            "stock.high",
            LOW,
            "no event type 'stock.high': job.finished, job.wanted, order.cancelled, order.placed, stock.low",
        ),
        ("stock.low", LOW | {"units": "two"}, "data.units: Expected `int`, got `str`"),
        ("stock.low", {}, "missing required field `product`"),
    ],
)
def test_an_event_that_breaks_its_contract_is_refused_in_one_line(
    deployment: Deployment, published_queue: str, event_type: str, data: object, told: str
) -> None:
    assert told in refusal("events", "publish", event_type, "--data", "-", stdin=json.dumps(data))
    assert received(deployment, published_queue) == []


GITHUB_TYPES = (
    "pull_request.closed",
    "release.created",
    "release.deleted",
    "release.edited",
    "release.prereleased",
    "release.published",
    "release.released",
    "release.unpublished",
)


def test_the_event_types_are_listed() -> None:
    types = json.loads(ran("events", "types", "--json").stdout)
    assert [each["type"] for each in types] == [
        "job.finished",
        "job.wanted",
        "order.cancelled",
        "order.placed",
        "stock.low",
        *(f"subscription.{name}" for name in ("failing", "paused", "recovered")),
        *(f"webhook.received.github.{name}" for name in GITHUB_TYPES),
    ]
    assert types[3]["dataschema"] == "urn:offload:order.placed:1"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("748957.020", "748957.02"),
        ("0", "0.00"),
        ("-0.000", "0.00"),
        ("12", "12.00"),
        ("1E+3", "1000.00"),
        ("0.001", "0.001"),
        ("-11062.06", "-11062.06"),
        ("1.2340", "1.234"),
    ],
)
def test_money_has_its_pence_and_never_loses_a_decimal(amount: str, text: str) -> None:
    assert money(Decimal(amount)) == text


def ledger() -> Ledger:
    """Three products, two days, two countries."""
    small, large = Figures(Decimal("1.50"), 3, 1, 0), Figures(Decimal("1234.567"), 40, 2, 1)
    return Ledger(
        small.plus(large),
        {"2010-12-02": large, "2010-12-01": small},
        {"EIRE": small, "United Kingdom": large},
        {"m": small, "M": large, "[b]": Figures()},
    )


def test_the_ledger_as_json_has_money_as_text_and_every_breakdown() -> None:
    document = json.loads(json.dumps(document_of(ledger())))
    assert document["revenue"] == "1236.067"
    assert (document["units"], document["orders"], document["cancellations"]) == (43, 3, 1)
    assert document["by_country"]["EIRE"] == {"revenue": "1.50", "units": 3, "orders": 1, "cancellations": 0}
    assert list(document["by_country"]) == ["United Kingdom", "EIRE"]
    assert list(document["by_day"]) == ["2010-12-01", "2010-12-02"]
    assert list(document["by_product"]) == ["M", "m", "[b]"]


@pytest.mark.parametrize(("by", "first"), [(By.COUNTRY, "United Kingdom"), (By.DAY, "2010-12-01"), (By.PRODUCT, "M")])
def test_the_ledger_s_table_is_sorted_cut_and_totalled(by: By, first: str) -> None:
    screen = Screen(file=StringIO(), width=100)
    screen.print(table_of(ledger(), by, rows=1))
    assert isinstance(screen.file, StringIO)
    lines = [line.strip() for line in screen.file.getvalue().splitlines() if line.strip()]
    assert lines[0].startswith(by.value)
    assert lines[2].startswith(first)
    assert "more: --rows" in lines[3]
    assert lines[-1].split() == ["total", "1,236.067", "43", "3", "1"]


def test_the_ledger_s_table_shows_names_as_they_are() -> None:
    screen = Screen(file=StringIO(), width=100)
    screen.print(table_of(ledger(), By.PRODUCT, rows=9))
    assert isinstance(screen.file, StringIO)
    assert "[b]" in screen.file.getvalue()
