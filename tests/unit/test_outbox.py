"""The transactional outbox and its relay, on SQLite and on PostgreSQL, against a bus that misbehaves."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import Engine, MetaData, create_engine, delete, event, func, inspect, select, text, update
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column, scoped_session, sessionmaker
from sqlalchemy.pool import StaticPool
from typer.testing import CliRunner

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment
from offload.cli.events.outbox_commands import app
from offload.cli.local.process import Instance
from offload.client.outbox import Outbox, State
from offload.client.publisher import Publisher, Retries
from offload.client.relay import Patience, Relay, RelayStopped, connect
from offload.contracts.events.event import BrokenContract, Event
from shop.contracts.orders import OrderLine, OrderPlaced
from tests.patience import PATIENCE
from tests.unit.bus_server import Answer, Bus, serving
from tests.unit.databases import database_url, postgresql, postgresql_server, sqlite

__all__ = ["database_url", "postgresql", "postgresql_server", "sqlite"]

outbox = Outbox()


class Base(DeclarativeBase):
    """The monolith's own tables, and the outbox among them."""


class Order(Base):
    __tablename__ = "orders"
    invoice: Mapped[str] = mapped_column(primary_key=True)


outbox.table(Base.metadata)


def placed(invoice: str, description: str = "WHITE HANGING HEART") -> Event[OrderPlaced]:
    line = OrderLine(product="85123A", quantity=6, unit_price=Decimal("2.55"), description=description)
    moment = datetime(2010, 12, 1, tzinfo=UTC)
    return OrderPlaced(invoice=invoice, invoiced_at=moment, country="United Kingdom", lines=(line,)).event()


@dataclass
class Shop:
    """A monolith with its database, and a bus."""

    url: str
    engine: Engine
    bus: Bus
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def place(self, *invoices: str, key: str | None = None) -> None:
        """Places orders, each in a transaction of its own."""
        for invoice in invoices:
            with Session(self.engine) as session, session.begin():
                session.add(Order(invoice=invoice))
                outbox.add(session, placed(invoice), key=key)

    def relay(self, **settings: Any) -> Relay:
        retries = Retries(attempts=2, base=0.001, deadline=5)
        publisher = Publisher("orders", events=self.bus.client(), retries=retries)
        return Relay(self.engine, publisher, now=lambda: self.now, jitter=lambda _, high: high, **settings)

    def drain(self, relay: Relay | None = None) -> None:
        relay = relay or self.relay()
        for _ in range(100):
            if not relay.run_once().taken:
                return
        pytest.fail("the outbox does not run empty")

    @property
    def published(self) -> list[str]:
        return [id_.removeprefix("order.placed:") for id_ in self.bus.ids]

    def refuse(self, *invoices: str, code: str = "MalformedDetail") -> None:
        """Makes the bus refuse the events of these invoices."""
        names = {f"order.placed:{invoice}" for invoice in invoices}
        self.bus.decide = lambda entries: Answer(
            failing={at: code for at, entry in enumerate(entries) if json.loads(entry["Detail"])["id"] in names}
        )

    def accept(self) -> None:
        self.bus.decide = lambda _: Answer()


@pytest.fixture
def shop(database_url: str) -> Iterator[Shop]:
    with serving() as bus:
        engine = connect(database_url)
        Base.metadata.create_all(engine)
        yield Shop(database_url, engine, bus)
        engine.dispose()


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s: {what}")
        time.sleep(0.02)


def test_an_event_is_published_after_its_transaction_is_committed(shop: Shop) -> None:
    with Session(shop.engine) as session, session.begin():
        session.add(Order(invoice="1"))
        outbox.add(session, placed("1"))
        session.flush()

    assert shop.published == []
    shop.drain()

    assert shop.published == ["1"]
    assert shop.bus.taken[0]["detail"]["data"]["country"] == "United Kingdom"


def test_an_event_of_a_transaction_that_was_rolled_back_was_never_there(shop: Shop) -> None:
    def place_and_fail() -> None:
        with Session(shop.engine) as session, session.begin():
            outbox.add(session, placed("1"))
            session.flush()
            raise ValueError("the order is not to be")

    with pytest.raises(ValueError, match="not to be"):
        place_and_fail()
    shop.drain()

    assert shop.published == []
    assert outbox.status(shop.engine).waiting == 0


def test_an_event_can_be_added_in_the_transaction_of_a_plain_connection(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        outbox.add(connection, placed("1"), placed("2"))
    shop.drain()

    assert shop.published == ["1", "2"]


def test_adding_to_an_engine_is_refused_because_it_is_no_transaction(shop: Shop) -> None:
    with pytest.raises(TypeError, match="Session or Connection"):
        outbox.add(shop.engine, placed("1"))  # type: ignore[arg-type]


def test_a_broken_event_raises_in_the_monolith_and_nothing_is_written(shop: Shop) -> None:
    good = placed("1")
    broken = msgspec.structs.replace(good, id="x" * 257)

    with Session(shop.engine) as session, session.begin(), pytest.raises(BrokenContract, match=r"envelope\.id"):
        outbox.add(session, good, broken)

    assert outbox.status(shop.engine).waiting == 0


class OtherBase(DeclarativeBase):
    """Tables of another database of the monolith's."""


class Visit(OtherBase):
    __tablename__ = "visits"
    page: Mapped[str] = mapped_column(primary_key=True)


class Page(OtherBase):
    __tablename__ = "pages"
    page: Mapped[str] = mapped_column(primary_key=True)


@pytest.fixture
def databases() -> Iterator[tuple[Engine, Engine]]:
    """One database with the outbox in it, one without."""
    engines = tuple(create_engine("sqlite://", poolclass=StaticPool) for _ in range(2))
    Base.metadata.create_all(engines[0])
    OtherBase.metadata.create_all(engines[1])
    yield engines[0], engines[1]
    for engine in engines:
        engine.dispose()


@pytest.mark.parametrize(
    "binds",
    [
        lambda shop, other: {"binds": {Base: shop, OtherBase: other}},
        lambda shop, other: {"binds": {Visit: other, Order: shop}},
        lambda shop, other: {"binds": {Order.__table__: shop, Visit: other}},
        lambda shop, other: {"binds": {outbox.rows: shop, Visit: other}},
        lambda shop, other: {"binds": {Base.metadata.tables["outbox_events"]: shop, Visit: other, Order: shop}},
        lambda shop, other: {"binds": {Base: shop}},
        lambda shop, other: {"bind": other, "binds": {Base: shop}},
        lambda shop, other: {"bind": shop, "binds": {OtherBase: other}},
    ],
)
@pytest.mark.parametrize("scoped", [False, True])
def test_an_event_goes_into_the_database_that_the_outbox_is_in_whatever_other_binds_a_session_has(
    databases: tuple[Engine, Engine], binds: Callable[[Engine, Engine], dict[str, Any]], scoped: bool
) -> None:
    made = sessionmaker(**binds(*databases))
    session = scoped_session(made) if scoped else made()
    outbox.add(session, placed("1"))
    session.rollback()
    outbox.add(session, placed("2"))
    session.commit()
    session.close()
    assert outbox.status(databases[0]).waiting == 1


class Routed(Session):
    """A team's own routing: everything but visits is the shop's."""

    shop: Engine

    def get_bind(self, mapper: Any = None, **_: Any) -> Engine:
        return self.shop


def test_a_session_with_routing_of_its_own_is_asked(databases: tuple[Engine, Engine]) -> None:
    class Here(Routed):
        shop = databases[0]

    with Here(binds={Visit: databases[1]}) as session, session.begin():
        outbox.add(session, placed("1"))
    assert outbox.status(databases[0]).waiting == 1


@pytest.mark.parametrize(
    "binds",
    [
        lambda shop, other: {Visit: other, Page: shop},
        lambda shop, other: {Order: shop, outbox.rows: shop, Base.metadata.tables["outbox_events"]: other},
        lambda shop, other: {},
    ],
)
def test_a_session_that_does_not_say_where_the_outbox_is_is_refused_with_what_to_write(
    databases: tuple[Engine, Engine], binds: Callable[[Engine, Engine], Any]
) -> None:
    with (
        Session(binds=binds(*databases)) as session,
        pytest.raises(
            UnboundExecutionError, match=r"the table outbox_events is: .*binds=\{\.\.\., outbox\.rows: engine\}"
        ),
    ):
        outbox.add(session, placed("1"))
    assert outbox.status(databases[0]).waiting == 0


def test_the_table_is_defined_once_in_the_teams_metadata() -> None:
    metadata = MetaData()

    assert outbox.table(metadata) is outbox.table(metadata)
    assert set(metadata.tables) == {"outbox_events"}
    assert Outbox("mine", schema="shop").table(metadata).fullname == "shop.mine"


def test_a_team_without_migrations_lets_the_outbox_create_its_table(database_url: str) -> None:
    engine = connect(database_url)
    Outbox("own").create_all(engine)
    Outbox("own").create_all(engine)

    assert inspect(engine).get_table_names() == ["own"]
    engine.dispose()


def test_events_of_one_key_are_published_in_the_order_they_were_added(shop: Shop) -> None:
    shop.place("a1", "a2", key="a")
    shop.place("b1", key="b")
    shop.place("a3", key="a")
    shop.drain()

    assert [invoice for invoice in shop.published if invoice[0] == "a"] == ["a1", "a2", "a3"]
    assert sorted(shop.published) == ["a1", "a2", "a3", "b1"]


def test_a_later_event_of_a_key_waits_for_an_earlier_one_that_fails_and_other_keys_do_not(shop: Shop) -> None:
    shop.place("a1", "a2", key="a")
    shop.place("b1", "b2", key="b")
    shop.refuse("a1", code="InternalFailure")
    relay = shop.relay()

    for _ in range(10):
        relay.run_once()
        shop.now += timedelta(minutes=5)
    assert shop.published == ["b1", "b2"]
    assert outbox.status(shop.engine).held == 0

    shop.accept()
    shop.drain(relay)
    assert shop.published == ["b1", "b2", "a1", "a2"]


def test_a_failed_event_is_not_tried_again_before_its_delay_is_over(shop: Shop) -> None:
    shop.place("1")
    shop.refuse("1", code="InternalFailure")
    relay = shop.relay()

    assert relay.run_once().failed == 1
    assert relay.run_once().taken == 0
    shop.now += timedelta(seconds=1)
    assert relay.run_once().failed == 1
    shop.now += timedelta(seconds=1)
    assert relay.run_once().taken == 0


def test_an_event_that_can_never_be_published_is_held_with_its_reason_and_only_its_key_waits(shop: Shop) -> None:
    shop.place("a1", "a2", key="a")
    shop.place("b1", key="b")
    shop.refuse("a1")
    relay = shop.relay(patience=Patience(refusals=3))
    for _ in range(6):
        relay.run_once()
        shop.now += timedelta(minutes=5)

    assert shop.published == ["b1"]
    assert sum("order.placed:a1" in asked for asked in shop.bus.asked()) == 3
    (held,) = outbox.held(shop.engine)
    assert (held.event_id, held.key, held.behind) == ("order.placed:a1", "a", 1)
    assert held.reason == "MalformedDetail: told to"

    shop.accept()
    assert outbox.retry(shop.engine) == 1
    shop.drain(relay)
    assert shop.published == ["b1", "a1", "a2"]


def test_a_held_event_that_is_discarded_lets_the_next_of_its_key_go(shop: Shop) -> None:
    shop.place("a1", "a2", key="a")
    shop.refuse("a1")
    relay = shop.relay(patience=Patience(refusals=1))
    relay.run_once()
    (held,) = outbox.held(shop.engine)

    assert outbox.discard(shop.engine, [held.row]) == 1
    shop.drain(relay)

    assert shop.published == ["a2"]
    status = outbox.status(shop.engine)
    assert (status.waiting, status.held, status.published, status.discarded) == (0, 0, 1, 1)


def test_only_held_events_can_be_discarded(shop: Shop) -> None:
    shop.place("1")

    assert outbox.discard(shop.engine, [1]) == 0
    assert outbox.status(shop.engine).waiting == 1


def test_a_row_that_somebody_spoilt_is_held_and_says_why(shop: Shop) -> None:
    shop.place("1", "2")
    with shop.engine.begin() as connection:
        connection.execute(update(outbox.rows).where(outbox.rows.c.id == 1).values(event="{"))
    relay = shop.relay(patience=Patience(refusals=1))
    shop.drain(relay)

    assert shop.published == ["2"]
    assert outbox.held(shop.engine)[0].reason.startswith("BrokenContract: envelope: not JSON")


def test_a_bus_in_trouble_is_held_against_no_event(shop: Shop) -> None:
    shop.place("1", "2")
    shop.bus.decide = lambda _: Answer(status=500, code="InternalFailure", take=False)
    relay = shop.relay(patience=Patience(refusals=1))
    for _ in range(5):
        done = relay.run_once()
        assert done.refusal is not None
        assert done.refusal.transient

    shop.accept()
    assert relay.run_once().published == 2
    assert shop.published == ["1", "2"]


def test_a_publisher_without_a_claims_bucket_holds_a_large_event(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        outbox.add(connection, placed("1", description="x" * 1_100_000), placed("2"))
    shop.drain(shop.relay(patience=Patience(refusals=1)))

    assert shop.published == ["2"]
    assert "no claims bucket" in outbox.held(shop.engine)[0].reason


def test_published_rows_are_deleted_after_their_retention_and_open_ones_never(shop: Shop) -> None:
    relay = shop.relay(retention=timedelta(days=7))
    shop.place("1")
    shop.drain(relay)
    shop.now += timedelta(days=6)
    shop.place("2")
    shop.drain(relay)
    shop.place("3")
    assert relay.clean_up() == 0

    shop.now += timedelta(days=1, seconds=1)
    assert relay.clean_up() == 1

    assert (outbox.status(shop.engine).published, outbox.status(shop.engine).waiting) == (1, 1)


def test_more_rows_than_one_deletion_takes_are_cleaned_up_in_one_go(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        outbox.add(connection, *(placed(str(number)) for number in range(2100)))
        done = {"state": State.PUBLISHED, "published_at": shop.now}
        connection.execute(update(outbox.rows).values(done))

    assert shop.relay(retention=timedelta(0)).clean_up() == 2100
    assert outbox.status(shop.engine).published == 0


def test_several_relays_share_the_work_without_doubling_it(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        for number in range(400):
            outbox.add(connection, placed(str(number)), key=f"key {number % 40}")
    relays = [shop.relay(batch=10, idle=timedelta(seconds=0.01)) for _ in range(4)]
    stop = threading.Event()
    threads = [threading.Thread(target=relay.run, args=(stop,)) for relay in relays]
    for thread in threads:
        thread.start()
    try:
        until(lambda: outbox.status(shop.engine).waiting == 0, "the outbox is not empty")
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert len(shop.published) == len(set(shop.published)) == 400
    for key in range(40):
        of_key = [int(invoice) for invoice in shop.published if int(invoice) % 40 == key]
        assert of_key == sorted(of_key)


def test_rows_of_a_relay_that_hangs_are_left_alone_until_its_lease_ends(sqlite: str) -> None:
    with serving() as bus:
        shop = Shop(sqlite, connect(sqlite), bus)
        Base.metadata.create_all(shop.engine)
        shop.place("1")
        other = shop.relay(lease=timedelta(seconds=30))
        taken: list[int] = []

        def while_published() -> None:
            bus.decide = lambda _: Answer()
            taken.append(other.run_once().taken)
            shop.now += timedelta(seconds=31)
            taken.append(other.run_once().taken)

        bus.decide = lambda _: Answer(then=while_published)
        shop.relay(lease=timedelta(seconds=30)).run_once()

        assert taken == [0, 1]
        assert outbox.status(shop.engine).published == 1


def test_rows_that_a_relay_publishes_are_locked_for_others_and_free_as_soon_as_it_dies(postgresql: str) -> None:
    with serving() as bus:
        shop = Shop(postgresql, connect(postgresql), bus)
        Base.metadata.create_all(shop.engine)
        shop.place("1")
        taken: list[int] = []

        def while_published() -> None:
            bus.decide = lambda _: Answer()
            taken.append(shop.relay().run_once().taken)
            with create_engine(postgresql).connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "  # waits for its end: ms
                        "WHERE state = 'idle in transaction' AND datname = current_database()"
                    )
                )
            taken.append(shop.relay().run_once().taken)

        bus.decide = lambda _: Answer(then=while_published)
        with pytest.raises(Exception, match="terminat"):
            shop.relay().run_once()

        assert taken == [0, 1]
        assert shop.published == ["1", "1"]
        shop.engine.dispose()


def test_a_row_that_becomes_visible_after_a_later_one_is_published_all_the_same(postgresql: str) -> None:
    with serving() as bus:
        shop = Shop(postgresql, connect(postgresql), bus)
        Base.metadata.create_all(shop.engine)
        with shop.engine.connect() as slow, slow.begin():
            outbox.add(slow, placed("1"))
            shop.place("2")
            shop.drain()
            assert shop.published == ["2"]
        shop.drain()

        assert shop.published == ["2", "1"]
        with shop.engine.connect() as connection:
            rows = connection.execute(select(outbox.rows.c.id, outbox.rows.c.event_id).order_by("id")).all()
        assert [row.event_id for row in rows] == ["order.placed:1", "order.placed:2"]
        shop.engine.dispose()


def test_a_monolith_that_writes_while_events_are_published_is_not_held_up(shop: Shop) -> None:
    shop.place("1")

    def write() -> None:
        shop.bus.decide = lambda _: Answer()
        shop.place("2")

    shop.bus.decide = lambda _: Answer(then=write)
    shop.drain()

    assert shop.published == ["1", "2"]


def test_a_backlog_of_one_key_does_not_make_a_pass_slow(shop: Shop) -> None:
    with shop.engine.begin() as connection:
        outbox.add(connection, *(placed(str(number)) for number in range(3000)), key="one key")
    shop.place("other")
    relay = shop.relay()

    def seconds_of_a_pass() -> float:
        started = time.monotonic()
        relay.run_once()
        return time.monotonic() - started

    seconds_of_a_pass()
    long = seconds_of_a_pass()
    assert shop.published == ["0", "other", "1"]
    with shop.engine.begin() as connection:
        waiting = select(outbox.rows.c.id).order_by(outbox.rows.c.id.desc()).limit(2_900)
        connection.execute(delete(outbox.rows).where(outbox.rows.c.id.in_(connection.scalars(waiting).all())))
    short = seconds_of_a_pass()
    # By the machine's own speed: a look at each row for each other one would be nine hundred times as long.
    assert long <= 100 * max(short, 0.002)


def test_the_relay_waits_for_a_bus_in_trouble_and_stops_for_one_that_denies(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    shop.place("1")
    patience = Patience(failures=2, base=0.001, cap=0.002)
    shop.bus.script = [Answer(status=500, code="InternalFailure", take=False)] * 9
    shop.bus.decide = lambda _: Answer(status=400, code="AccessDeniedException", take=False)

    with caplog.at_level(logging.ERROR), pytest.raises(RelayStopped, match=r"'orders' refused 2 times.*AccessDenied"):
        shop.relay(patience=patience).run(threading.Event())

    assert [record.message for record in caplog.records] == ["bus refused"] * 6
    assert outbox.status(shop.engine).waiting == 1


def test_the_relay_outlives_a_database_that_is_away_for_a_moment_and_stops_when_it_stays_away(shop: Shop) -> None:
    shop.place("1")
    stop = threading.Event()
    failing = [True, True]

    @event.listens_for(shop.engine, "before_cursor_execute")
    def away(*_: Any) -> None:
        from sqlalchemy.exc import OperationalError

        if failing and failing.pop():
            raise OperationalError("secret statement", {}, Exception("the server closed the connection"))

    patience = Patience(failures=3, base=0.001, cap=0.002)
    relay = shop.relay(patience=patience, idle=timedelta(seconds=0.01))
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    until(lambda: shop.published == ["1"], "the event is not published")
    stop.set()
    thread.join()

    failing.extend([True] * 3)
    with pytest.raises(RelayStopped, match=r"^the database failed 3 times in a row: the server closed the connection$"):
        relay.run(threading.Event())


def test_a_lease_that_a_publish_could_outlast_is_refused(shop: Shop) -> None:
    with pytest.raises(ValueError, match="lease of 5 s must be longer than the publisher's deadline of 5 s"):
        shop.relay(lease=timedelta(seconds=5))


def relay_process(shop: Shop, *arguments: str, url: str | None = None) -> subprocess.Popen[str]:
    aws = {
        "AWS_ACCESS_KEY_ID": "000000000000",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "OFFLOAD_DATABASE_URL": url or shop.url,
    }
    command = [sys.executable, "-m", "offload.client.relay", "--bus", "orders", "--endpoint-url", shop.bus.url]
    return subprocess.Popen([*command, *arguments], env={**os.environ, **aws}, stderr=subprocess.PIPE, text=True)


def test_the_relay_process_ends_its_pass_and_itself_on_sigterm(shop: Shop) -> None:
    with relay_process(shop, "--idle", "0.05") as process:
        shop.place("1")
        until(lambda: shop.published == ["1"], "the event is not published")
        shop.bus.decide = lambda _: Answer(then=lambda: process.send_signal(signal.SIGTERM))
        shop.place("2")
        _, log = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
    assert outbox.status(shop.engine).published == 2
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["message"] for line in lines][-1] == "relay stopped"
    assert [line["published"] for line in lines if line["message"] == "pass"] == [1, 1]


def test_events_that_were_out_when_their_relay_was_killed_are_repeated_under_their_ids_and_no_others(
    shop: Shop,
) -> None:
    shop.place("1", "2", "3")
    with relay_process(shop, "--lease", "2", "--until-empty") as process:
        shop.bus.script = [Answer(then=process.kill)]
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert shop.published == ["1", "2", "3"]
    shop.place("4")

    shop.now = datetime.now(UTC) + timedelta(seconds=2)
    shop.drain()

    assert sorted(shop.published) == ["1", "1", "2", "2", "3", "3", "4"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "the database URL is not one"),
        ("postgresql+nodriver://u:secret@h/d", "database URL"),
        ("oracle+cx_oracle://u:secret@h/d", "'cx_Oracle'"),
        ("sqlite:////no/such/folder/shop.db", "unable to open database file"),
        ("sqlite://", "no such table: outbox_events"),
    ],
)
def test_a_relay_that_cannot_work_says_why_in_one_line_without_the_password(sqlite: str, url: str, says: str) -> None:
    with serving() as bus:
        shop = Shop(sqlite, connect(sqlite), bus)
        with relay_process(shop, "--until-empty", url=url) as process:
            _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert errors.startswith("relay: ")
    assert says in errors
    assert "secret" not in errors
    assert errors.count("\n") == 1


def test_operators_see_how_the_outbox_stands_and_decide_on_held_events(shop: Shop) -> None:
    shop.place("a1", "a2", key="a")
    shop.place("b1")
    shop.refuse("a1")
    relay = shop.relay(patience=Patience(refusals=1))
    shop.drain(relay)
    shop.accept()

    def offload(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments), env={"OFFLOAD_DATABASE_URL": shop.url})

    found = json.loads(offload("status", "--json").stdout)
    assert (found["waiting"], found["held"], found["published"]) == (1, 1, 1)
    assert found["oldest_waiting_seconds"] >= 0
    (held,) = found["held_events"]
    assert (held["event_id"], held["reason"], held["behind"]) == (
        "order.placed:a1",
        "MalformedDetail: told to",
        1,
    )
    shown = offload("status").stdout
    assert "1 waiting" in shown
    assert "order.placed:a1" in shown
    assert "MalformedDetail" in shown

    assert "not held" in str(offload("discard", "77").exception)
    assert "--all" in str(offload("retry").exception)
    assert offload("retry", str(held["row"])).stdout == "1 held events will be published again\n"
    shop.drain(relay)
    assert shop.published == ["b1", "a1", "a2"]


def test_offload_outbox_relay_publishes_to_the_environments_own_bus_until_sigterm(
    shop: Shop, emulator: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Real services; only what CloudFormation would say of a deployment is given.
    deployment = Deployment(Aws("local", emulator))
    name = f"outbox-{uuid4().hex[:12]}"
    deployment.aws.events.create_event_bus(Name=name)
    deployment.aws.s3.create_bucket(Bucket=name)
    deployment.__dict__["bus"] = name
    monkeypatch.setattr(Deployment, "bucket", lambda *_: name)
    monkeypatch.setattr(Deployment, "of", lambda _: deployment)
    with shop.engine.begin() as connection:
        outbox.add(connection, placed("1"), placed("2", description="x" * 1_100_000))

    def stop_when_published() -> None:
        until(lambda: outbox.status(shop.engine).published == 2, "the events are not published")
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_when_published)
    stopper.start()
    ended = CliRunner().invoke(app, ["relay", "--idle", "0.05"], env={"OFFLOAD_DATABASE_URL": shop.url})
    stopper.join()

    assert (ended.exit_code, ended.exception) == (0, None)
    claims = deployment.aws.s3.list_objects_v2(Bucket=name)["Contents"]
    assert [found["Key"].rpartition("/")[0] for found in claims] == ["claims/order.placed"]


def test_every_row_is_one_of_the_four_states(shop: Shop) -> None:
    shop.place("1", "2", "3")
    shop.refuse("2")
    shop.drain(shop.relay(patience=Patience(refusals=1)))
    status = outbox.status(shop.engine)

    with shop.engine.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(outbox.rows))
    assert status.waiting + status.held + status.published + status.discarded == rows == 3
