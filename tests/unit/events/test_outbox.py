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

from clinic.contracts.visits import VisitEnded, VisitLine
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment
from offload.cli.events.outbox_commands import app
from offload.cli.local.process import Instance
from offload.client.outbox import Outbox, State
from offload.client.publisher import Publisher, Retries
from offload.client.relay import Patience, Relay, RelayStopped, connect
from offload.contracts.events.event import BrokenContract, Event
from tests.patience import PATIENCE
from tests.unit.events.bus_server import Answer, Bus, serving
from tests.unit.events.databases import database_url, postgresql, postgresql_server, sqlite

__all__ = ["database_url", "postgresql", "postgresql_server", "sqlite"]

outbox = Outbox()


class Base(DeclarativeBase):
    """The monolith's own tables, and the outbox among them."""


class Visit(Base):
    __tablename__ = "visits"
    visit: Mapped[str] = mapped_column(primary_key=True)


outbox.table(Base.metadata)


def ended(visit: str, description: str = "WHITE HANGING HEART") -> Event[VisitEnded]:
    line = VisitLine(item="85123A", quantity=6, unit_price=Decimal("2.55"), description=description)
    moment = datetime(2010, 12, 1, tzinfo=UTC)
    return VisitEnded(visit=visit, ended_at=moment, ward="United Kingdom", lines=(line,)).event()


@dataclass
class Monolith:
    """A monolith with its database, and a bus."""

    url: str
    engine: Engine
    bus: Bus
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def treat(self, *visits: str, key: str | None = None) -> None:
        """Treats patients, each visit in a transaction of its own."""
        for visit in visits:
            with Session(self.engine) as session, session.begin():
                session.add(Visit(visit=visit))
                outbox.add(session, ended(visit), key=key)

    def relay(self, **settings: Any) -> Relay:
        retries = Retries(attempts=2, base=0.001, deadline=5)
        publisher = Publisher("visits", events=self.bus.client(), retries=retries)
        return Relay(self.engine, publisher, now=lambda: self.now, jitter=lambda _, high: high, **settings)

    def drain(self, relay: Relay | None = None) -> None:
        relay = relay or self.relay()
        for _ in range(100):
            if not relay.run_once().taken:
                return
        pytest.fail("the outbox does not run empty")

    @property
    def published(self) -> list[str]:
        return [id_.removeprefix("visit.ended:") for id_ in self.bus.ids]

    def refuse(self, *visits: str, code: str = "MalformedDetail") -> None:
        """Makes the bus refuse the events of these visits."""
        names = {f"visit.ended:{visit}" for visit in visits}
        self.bus.decide = lambda entries: Answer(
            failing={at: code for at, entry in enumerate(entries) if json.loads(entry["Detail"])["id"] in names}
        )

    def accept(self) -> None:
        self.bus.decide = lambda _: Answer()


@pytest.fixture
def monolith(database_url: str) -> Iterator[Monolith]:
    with serving() as bus:
        engine = connect(database_url)
        Base.metadata.create_all(engine)
        yield Monolith(database_url, engine, bus)
        engine.dispose()


def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"after {seconds} s: {what}")
        time.sleep(0.02)


def test_an_event_is_published_after_its_transaction_is_committed(monolith: Monolith) -> None:
    with Session(monolith.engine) as session, session.begin():
        session.add(Visit(visit="1"))
        outbox.add(session, ended("1"))
        session.flush()

    assert monolith.published == []
    monolith.drain()

    assert monolith.published == ["1"]
    assert monolith.bus.taken[0]["detail"]["data"]["ward"] == "United Kingdom"


def test_an_event_of_a_transaction_that_was_rolled_back_was_never_there(monolith: Monolith) -> None:
    def place_and_fail() -> None:
        with Session(monolith.engine) as session, session.begin():
            outbox.add(session, ended("1"))
            session.flush()
            raise ValueError("the visit is not to be")

    with pytest.raises(ValueError, match="not to be"):
        place_and_fail()
    monolith.drain()

    assert monolith.published == []
    assert outbox.status(monolith.engine).waiting == 0


def test_an_event_can_be_added_in_the_transaction_of_a_plain_connection(monolith: Monolith) -> None:
    with monolith.engine.begin() as connection:
        outbox.add(connection, ended("1"), ended("2"))
    monolith.drain()

    assert monolith.published == ["1", "2"]


def test_adding_to_an_engine_is_refused_because_it_is_no_transaction(monolith: Monolith) -> None:
    with pytest.raises(TypeError, match="Session or Connection"):
        outbox.add(monolith.engine, ended("1"))  # type: ignore[arg-type]


def test_a_broken_event_raises_in_the_monolith_and_nothing_is_written(monolith: Monolith) -> None:
    good = ended("1")
    broken = msgspec.structs.replace(good, id="x" * 257)

    with Session(monolith.engine) as session, session.begin(), pytest.raises(BrokenContract, match=r"envelope\.id"):
        outbox.add(session, good, broken)

    assert outbox.status(monolith.engine).waiting == 0


class OtherBase(DeclarativeBase):
    """Tables of another database of the monolith's."""


class View(OtherBase):
    __tablename__ = "views"
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
        lambda monolith, other: {"binds": {Base: monolith, OtherBase: other}},
        lambda monolith, other: {"binds": {View: other, Visit: monolith}},
        lambda monolith, other: {"binds": {Visit.__table__: monolith, View: other}},
        lambda monolith, other: {"binds": {outbox.rows: monolith, View: other}},
        lambda monolith, other: {
            "binds": {Base.metadata.tables["outbox_events"]: monolith, View: other, Visit: monolith}
        },
        lambda monolith, other: {"binds": {Base: monolith}},
        lambda monolith, other: {"bind": other, "binds": {Base: monolith}},
        lambda monolith, other: {"bind": monolith, "binds": {OtherBase: other}},
    ],
)
@pytest.mark.parametrize("scoped", [False, True])
def test_an_event_goes_into_the_database_that_the_outbox_is_in_whatever_other_binds_a_session_has(
    databases: tuple[Engine, Engine], binds: Callable[[Engine, Engine], dict[str, Any]], scoped: bool
) -> None:
    made = sessionmaker(**binds(*databases))
    session = scoped_session(made) if scoped else made()
    outbox.add(session, ended("1"))
    session.rollback()
    outbox.add(session, ended("2"))
    session.commit()
    session.close()
    assert outbox.status(databases[0]).waiting == 1


class Routed(Session):
    """A team's own routing: everything but the pages' views is the monolith's."""

    monolith: Engine

    def get_bind(self, mapper: Any = None, **_: Any) -> Engine:
        return self.monolith


def test_a_session_with_routing_of_its_own_is_asked(databases: tuple[Engine, Engine]) -> None:
    class Here(Routed):
        monolith = databases[0]

    with Here(binds={View: databases[1]}) as session, session.begin():
        outbox.add(session, ended("1"))
    assert outbox.status(databases[0]).waiting == 1


@pytest.mark.parametrize(
    "binds",
    [
        lambda monolith, other: {View: other, Page: monolith},
        lambda monolith, other: {Visit: monolith, outbox.rows: monolith, Base.metadata.tables["outbox_events"]: other},
        lambda monolith, other: {},
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
        outbox.add(session, ended("1"))
    assert outbox.status(databases[0]).waiting == 0


def test_the_table_is_defined_once_in_the_teams_metadata() -> None:
    metadata = MetaData()

    assert outbox.table(metadata) is outbox.table(metadata)
    assert set(metadata.tables) == {"outbox_events"}
    assert Outbox("mine", schema="monolith").table(metadata).fullname == "monolith.mine"


def test_a_team_without_migrations_lets_the_outbox_create_its_table(database_url: str) -> None:
    engine = connect(database_url)
    Outbox("own").create_all(engine)
    Outbox("own").create_all(engine)

    assert inspect(engine).get_table_names() == ["own"]
    engine.dispose()


def test_events_of_one_key_are_published_in_the_order_they_were_added(monolith: Monolith) -> None:
    monolith.treat("a1", "a2", key="a")
    monolith.treat("b1", key="b")
    monolith.treat("a3", key="a")
    monolith.drain()

    assert [visit for visit in monolith.published if visit[0] == "a"] == ["a1", "a2", "a3"]
    assert sorted(monolith.published) == ["a1", "a2", "a3", "b1"]


def test_a_later_event_of_a_key_waits_for_an_earlier_one_that_fails_and_other_keys_do_not(monolith: Monolith) -> None:
    monolith.treat("a1", "a2", key="a")
    monolith.treat("b1", "b2", key="b")
    monolith.refuse("a1", code="InternalFailure")
    relay = monolith.relay()

    for _ in range(10):
        relay.run_once()
        monolith.now += timedelta(minutes=5)
    assert monolith.published == ["b1", "b2"]
    assert outbox.status(monolith.engine).held == 0

    monolith.accept()
    monolith.drain(relay)
    assert monolith.published == ["b1", "b2", "a1", "a2"]


def test_a_failed_event_is_not_tried_again_before_its_delay_is_over(monolith: Monolith) -> None:
    monolith.treat("1")
    monolith.refuse("1", code="InternalFailure")
    relay = monolith.relay()

    assert relay.run_once().failed == 1
    assert relay.run_once().taken == 0
    monolith.now += timedelta(seconds=1)
    assert relay.run_once().failed == 1
    monolith.now += timedelta(seconds=1)
    assert relay.run_once().taken == 0


def test_an_event_that_can_never_be_published_is_held_with_its_reason_and_only_its_key_waits(
    monolith: Monolith,
) -> None:
    monolith.treat("a1", "a2", key="a")
    monolith.treat("b1", key="b")
    monolith.refuse("a1")
    relay = monolith.relay(patience=Patience(refusals=3))
    for _ in range(6):
        relay.run_once()
        monolith.now += timedelta(minutes=5)

    assert monolith.published == ["b1"]
    assert sum("visit.ended:a1" in asked for asked in monolith.bus.asked()) == 3
    (held,) = outbox.held(monolith.engine)
    assert (held.event_id, held.key, held.behind) == ("visit.ended:a1", "a", 1)
    assert held.reason == "MalformedDetail: told to"

    monolith.accept()
    assert outbox.retry(monolith.engine) == 1
    monolith.drain(relay)
    assert monolith.published == ["b1", "a1", "a2"]


def test_a_held_event_that_is_discarded_lets_the_next_of_its_key_go(monolith: Monolith) -> None:
    monolith.treat("a1", "a2", key="a")
    monolith.refuse("a1")
    relay = monolith.relay(patience=Patience(refusals=1))
    relay.run_once()
    (held,) = outbox.held(monolith.engine)

    assert outbox.discard(monolith.engine, [held.row]) == 1
    monolith.drain(relay)

    assert monolith.published == ["a2"]
    status = outbox.status(monolith.engine)
    assert (status.waiting, status.held, status.published, status.discarded) == (0, 0, 1, 1)


def test_only_held_events_can_be_discarded(monolith: Monolith) -> None:
    monolith.treat("1")

    assert outbox.discard(monolith.engine, [1]) == 0
    assert outbox.status(monolith.engine).waiting == 1


def test_a_row_that_somebody_spoilt_is_held_and_says_why(monolith: Monolith) -> None:
    monolith.treat("1", "2")
    with monolith.engine.begin() as connection:
        connection.execute(update(outbox.rows).where(outbox.rows.c.id == 1).values(event="{"))
    relay = monolith.relay(patience=Patience(refusals=1))
    monolith.drain(relay)

    assert monolith.published == ["2"]
    assert outbox.held(monolith.engine)[0].reason.startswith("BrokenContract: envelope: not JSON")


def test_a_bus_in_trouble_is_held_against_no_event(monolith: Monolith) -> None:
    monolith.treat("1", "2")
    monolith.bus.decide = lambda _: Answer(status=500, code="InternalFailure", take=False)
    relay = monolith.relay(patience=Patience(refusals=1))
    for _ in range(5):
        done = relay.run_once()
        assert done.refusal is not None
        assert done.refusal.transient

    monolith.accept()
    assert relay.run_once().published == 2
    assert monolith.published == ["1", "2"]


def test_a_publisher_without_a_claims_bucket_holds_a_large_event(monolith: Monolith) -> None:
    with monolith.engine.begin() as connection:
        outbox.add(connection, ended("1", description="x" * 1_100_000), ended("2"))
    monolith.drain(monolith.relay(patience=Patience(refusals=1)))

    assert monolith.published == ["2"]
    assert "no claims bucket" in outbox.held(monolith.engine)[0].reason


def test_published_rows_are_deleted_after_their_retention_and_open_ones_never(monolith: Monolith) -> None:
    relay = monolith.relay(retention=timedelta(days=7))
    monolith.treat("1")
    monolith.drain(relay)
    monolith.now += timedelta(days=6)
    monolith.treat("2")
    monolith.drain(relay)
    monolith.treat("3")
    assert relay.clean_up() == 0

    monolith.now += timedelta(days=1, seconds=1)
    assert relay.clean_up() == 1

    assert (outbox.status(monolith.engine).published, outbox.status(monolith.engine).waiting) == (1, 1)


def test_more_rows_than_one_deletion_takes_are_cleaned_up_in_one_go(monolith: Monolith) -> None:
    with monolith.engine.begin() as connection:
        outbox.add(connection, *(ended(str(number)) for number in range(2100)))
        done = {"state": State.PUBLISHED, "published_at": monolith.now}
        connection.execute(update(outbox.rows).values(done))

    assert monolith.relay(retention=timedelta(0)).clean_up() == 2100
    assert outbox.status(monolith.engine).published == 0


def test_several_relays_share_the_work_without_doubling_it(monolith: Monolith) -> None:
    with monolith.engine.begin() as connection:
        for number in range(400):
            outbox.add(connection, ended(str(number)), key=f"key {number % 40}")
    relays = [monolith.relay(batch=10, idle=timedelta(seconds=0.01)) for _ in range(4)]
    stop = threading.Event()
    threads = [threading.Thread(target=relay.run, args=(stop,)) for relay in relays]
    for thread in threads:
        thread.start()
    try:
        until(lambda: outbox.status(monolith.engine).waiting == 0, "the outbox is not empty")
    finally:
        stop.set()
        for thread in threads:
            thread.join()

    assert len(monolith.published) == len(set(monolith.published)) == 400
    for key in range(40):
        of_key = [int(visit) for visit in monolith.published if int(visit) % 40 == key]
        assert of_key == sorted(of_key)


def test_rows_of_a_relay_that_hangs_are_left_alone_until_its_lease_ends(sqlite: str) -> None:
    with serving() as bus:
        monolith = Monolith(sqlite, connect(sqlite), bus)
        Base.metadata.create_all(monolith.engine)
        monolith.treat("1")
        other = monolith.relay(lease=timedelta(seconds=30))
        taken: list[int] = []

        def while_published() -> None:
            bus.decide = lambda _: Answer()
            taken.append(other.run_once().taken)
            monolith.now += timedelta(seconds=31)
            taken.append(other.run_once().taken)

        bus.decide = lambda _: Answer(then=while_published)
        monolith.relay(lease=timedelta(seconds=30)).run_once()

        assert taken == [0, 1]
        assert outbox.status(monolith.engine).published == 1


def test_rows_that_a_relay_publishes_are_locked_for_others_and_free_as_soon_as_it_dies(postgresql: str) -> None:
    with serving() as bus:
        monolith = Monolith(postgresql, connect(postgresql), bus)
        Base.metadata.create_all(monolith.engine)
        monolith.treat("1")
        taken: list[int] = []

        def while_published() -> None:
            bus.decide = lambda _: Answer()
            taken.append(monolith.relay().run_once().taken)
            with create_engine(postgresql).connect() as connection:
                connection.execute(
                    text(
                        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "  # waits for its end: ms
                        "WHERE state = 'idle in transaction' AND datname = current_database()"
                    )
                )
            taken.append(monolith.relay().run_once().taken)

        bus.decide = lambda _: Answer(then=while_published)
        with pytest.raises(Exception, match="terminat"):
            monolith.relay().run_once()

        assert taken == [0, 1]
        assert monolith.published == ["1", "1"]
        monolith.engine.dispose()


def test_a_row_that_becomes_visible_after_a_later_one_is_published_all_the_same(postgresql: str) -> None:
    with serving() as bus:
        monolith = Monolith(postgresql, connect(postgresql), bus)
        Base.metadata.create_all(monolith.engine)
        with monolith.engine.connect() as slow, slow.begin():
            outbox.add(slow, ended("1"))
            monolith.treat("2")
            monolith.drain()
            assert monolith.published == ["2"]
        monolith.drain()

        assert monolith.published == ["2", "1"]
        with monolith.engine.connect() as connection:
            rows = connection.execute(select(outbox.rows.c.id, outbox.rows.c.event_id).order_by("id")).all()
        assert [row.event_id for row in rows] == ["visit.ended:1", "visit.ended:2"]
        monolith.engine.dispose()


def test_a_monolith_that_writes_while_events_are_published_is_not_held_up(monolith: Monolith) -> None:
    monolith.treat("1")

    def write() -> None:
        monolith.bus.decide = lambda _: Answer()
        monolith.treat("2")

    monolith.bus.decide = lambda _: Answer(then=write)
    monolith.drain()

    assert monolith.published == ["1", "2"]


def test_a_backlog_of_one_key_does_not_make_a_pass_slow(monolith: Monolith) -> None:
    with monolith.engine.begin() as connection:
        outbox.add(connection, *(ended(str(number)) for number in range(3000)), key="one key")
    monolith.treat("other")
    relay = monolith.relay()

    def seconds_of_a_pass() -> float:
        started = time.monotonic()
        relay.run_once()
        return time.monotonic() - started

    seconds_of_a_pass()
    long = seconds_of_a_pass()
    assert monolith.published == ["0", "other", "1"]
    with monolith.engine.begin() as connection:
        waiting = select(outbox.rows.c.id).order_by(outbox.rows.c.id.desc()).limit(2_900)
        connection.execute(delete(outbox.rows).where(outbox.rows.c.id.in_(connection.scalars(waiting).all())))
    short = seconds_of_a_pass()
    # By the machine's own speed: a look at each row for each other one would be nine hundred times as long.
    assert long <= 100 * max(short, 0.002)


def test_the_relay_waits_for_a_bus_in_trouble_and_stops_for_one_that_denies(
    monolith: Monolith, caplog: pytest.LogCaptureFixture
) -> None:
    monolith.treat("1")
    patience = Patience(failures=2, base=0.001, cap=0.002)
    monolith.bus.script = [Answer(status=500, code="InternalFailure", take=False)] * 9
    monolith.bus.decide = lambda _: Answer(status=400, code="AccessDeniedException", take=False)

    with caplog.at_level(logging.ERROR), pytest.raises(RelayStopped, match=r"'visits' refused 2 times.*AccessDenied"):
        monolith.relay(patience=patience).run(threading.Event())

    assert [record.message for record in caplog.records] == ["bus refused"] * 6
    assert outbox.status(monolith.engine).waiting == 1


def test_the_relay_outlives_a_database_that_is_away_for_a_moment_and_stops_when_it_stays_away(
    monolith: Monolith,
) -> None:
    monolith.treat("1")
    stop = threading.Event()
    failing = [True, True]

    @event.listens_for(monolith.engine, "before_cursor_execute")
    def away(*_: Any) -> None:
        from sqlalchemy.exc import OperationalError

        if failing and failing.pop():
            raise OperationalError("secret statement", {}, Exception("the server closed the connection"))

    patience = Patience(failures=3, base=0.001, cap=0.002)
    relay = monolith.relay(patience=patience, idle=timedelta(seconds=0.01))
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    until(lambda: monolith.published == ["1"], "the event is not published")
    stop.set()
    thread.join()

    failing.extend([True] * 3)
    with pytest.raises(RelayStopped, match=r"^the database failed 3 times in a row: the server closed the connection$"):
        relay.run(threading.Event())


def test_a_lease_that_a_publish_could_outlast_is_refused(monolith: Monolith) -> None:
    with pytest.raises(ValueError, match="lease of 5 s must be longer than the publisher's deadline of 5 s"):
        monolith.relay(lease=timedelta(seconds=5))


def relay_process(monolith: Monolith, *arguments: str, url: str | None = None) -> subprocess.Popen[str]:
    aws = {
        "AWS_ACCESS_KEY_ID": "000000000000",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "OFFLOAD_DATABASE_URL": url or monolith.url,
    }
    command = [sys.executable, "-m", "offload.client.relay", "--bus", "visits", "--endpoint-url", monolith.bus.url]
    return subprocess.Popen([*command, *arguments], env={**os.environ, **aws}, stderr=subprocess.PIPE, text=True)


def test_the_relay_process_ends_its_pass_and_itself_on_sigterm(monolith: Monolith) -> None:
    with relay_process(monolith, "--idle", "0.05") as process:
        monolith.treat("1")
        until(lambda: monolith.published == ["1"], "the event is not published")
        monolith.bus.decide = lambda _: Answer(then=lambda: process.send_signal(signal.SIGTERM))
        monolith.treat("2")
        _, log = process.communicate(timeout=PATIENCE)

    assert process.returncode == 0
    assert outbox.status(monolith.engine).published == 2
    lines = [json.loads(line) for line in log.splitlines()]
    assert [line["message"] for line in lines][-1] == "relay stopped"
    assert [line["published"] for line in lines if line["message"] == "pass"] == [1, 1]


def test_events_that_were_out_when_their_relay_was_killed_are_repeated_under_their_ids_and_no_others(
    monolith: Monolith,
) -> None:
    monolith.treat("1", "2", "3")
    with relay_process(monolith, "--lease", "2", "--until-empty") as process:
        monolith.bus.script = [Answer(then=process.kill)]
        process.communicate(timeout=PATIENCE)
    assert process.returncode == -signal.SIGKILL
    assert monolith.published == ["1", "2", "3"]
    monolith.treat("4")

    monolith.now = datetime.now(UTC) + timedelta(seconds=2)
    monolith.drain()

    assert sorted(monolith.published) == ["1", "1", "2", "2", "3", "3", "4"]


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "the database URL is not one"),
        ("postgresql+nodriver://u:secret@h/d", "database URL"),
        ("oracle+cx_oracle://u:secret@h/d", "'cx_Oracle'"),
        ("sqlite:////no/such/folder/monolith.db", "unable to open database file"),
        ("sqlite://", "no such table: outbox_events"),
    ],
)
def test_a_relay_that_cannot_work_says_why_in_one_line_without_the_password(sqlite: str, url: str, says: str) -> None:
    with serving() as bus:
        monolith = Monolith(sqlite, connect(sqlite), bus)
        with relay_process(monolith, "--until-empty", url=url) as process:
            _, errors = process.communicate(timeout=PATIENCE)

    assert process.returncode == 1
    assert errors.startswith("relay: ")
    assert says in errors
    assert "secret" not in errors
    assert errors.count("\n") == 1


def test_operators_see_how_the_outbox_stands_and_decide_on_held_events(monolith: Monolith) -> None:
    monolith.treat("a1", "a2", key="a")
    monolith.treat("b1")
    monolith.refuse("a1")
    relay = monolith.relay(patience=Patience(refusals=1))
    monolith.drain(relay)
    monolith.accept()

    def offload(*arguments: str) -> Any:
        return CliRunner().invoke(app, list(arguments), env={"OFFLOAD_DATABASE_URL": monolith.url})

    found = json.loads(offload("status", "--json").stdout)
    assert (found["waiting"], found["held"], found["published"]) == (1, 1, 1)
    assert found["oldest_waiting_seconds"] >= 0
    (held,) = found["held_events"]
    assert (held["event_id"], held["reason"], held["behind"]) == (
        "visit.ended:a1",
        "MalformedDetail: told to",
        1,
    )
    shown = offload("status").stdout
    assert "1 waiting" in shown
    assert "visit.ended:a1" in shown
    assert "MalformedDetail" in shown

    assert "not held" in str(offload("discard", "77").exception)
    assert "--all" in str(offload("retry").exception)
    assert offload("retry", str(held["row"])).stdout == "1 held events will be published again\n"
    monolith.drain(relay)
    assert monolith.published == ["b1", "a1", "a2"]


def test_offload_outbox_relay_publishes_to_the_environments_own_bus_until_sigterm(
    monolith: Monolith, emulator: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Real services; only what CloudFormation would say of a deployment is given.
    deployment = Deployment(Aws("local", emulator))
    name = f"outbox-{uuid4().hex[:12]}"
    deployment.aws.events.create_event_bus(Name=name)
    deployment.aws.s3.create_bucket(Bucket=name)
    deployment.__dict__["bus"] = name
    monkeypatch.setattr(Deployment, "bucket", lambda *_: name)
    monkeypatch.setattr(Deployment, "of", lambda _: deployment)
    with monolith.engine.begin() as connection:
        outbox.add(connection, ended("1"), ended("2", description="x" * 1_100_000))

    def stop_when_published() -> None:
        until(lambda: outbox.status(monolith.engine).published == 2, "the events are not published")
        os.kill(os.getpid(), signal.SIGTERM)

    stopper = threading.Thread(target=stop_when_published)
    stopper.start()
    done = CliRunner().invoke(app, ["relay", "--idle", "0.05"], env={"OFFLOAD_DATABASE_URL": monolith.url})
    stopper.join()

    assert (done.exit_code, done.exception) == (0, None)
    claims = deployment.aws.s3.list_objects_v2(Bucket=name)["Contents"]
    assert [found["Key"].rpartition("/")[0] for found in claims] == ["claims/visit.ended"]


def test_every_row_is_one_of_the_four_states(monolith: Monolith) -> None:
    monolith.treat("1", "2", "3")
    monolith.refuse("2")
    monolith.drain(monolith.relay(patience=Patience(refusals=1)))
    status = outbox.status(monolith.engine)

    with monolith.engine.connect() as connection:
        rows = connection.scalar(select(func.count()).select_from(outbox.rows))
    assert status.waiting + status.held + status.published + status.discarded == rows == 3
