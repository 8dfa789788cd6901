"""The outbox on Django's connections: the table that SQLAlchemy's has, and the same relay, on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from django.core.management import call_command
from django.db import router, transaction
from django.db.transaction import TransactionManagementError
from sqlalchemy import Connection, Engine, create_engine, func, inspect, select, text

from clinic.contracts.jobs import WARD_REPORT, Days
from offload.client.jobs import wanted
from offload.client.outbox import Outbox as SqlAlchemyOutbox
from offload.client.outbox import State
from offload.client.relay import Patience, connect
from offload.contracts.events.event import BrokenContract
from tests.unit.events.bus_server import serving
from tests.unit.events.databases import database_url, postgresql, postgresql_server, sqlite
from tests.unit.events.django_monolith import databases
from tests.unit.events.django_monolith.visits.ending import audit, ended, outbox, treat
from tests.unit.events.django_monolith.visits.models import AuditEvent, Visit
from tests.unit.events.test_outbox import Monolith

__all__ = ["database_url", "postgresql", "postgresql_server", "sqlite"]

ROWS = SqlAlchemyOutbox()
AUDIT = SqlAlchemyOutbox("audit_events")


@pytest.fixture
def monolith(database_url: str) -> Iterator[Monolith]:
    """A monolith on Django, its database migrated, and a bus; the engine is the relay's."""
    with serving() as bus, databases(default=database_url):
        call_command("migrate", verbosity=0)
        engine = connect(database_url)
        yield Monolith(database_url, engine, bus)
        engine.dispose()


class Changed(Exception):
    """The patient went home."""


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or a savepoint within one, that fails in the end."""
    with suppress(Changed), transaction.atomic():
        yield
        raise Changed


def test_an_event_is_published_after_its_transaction_is_committed(monolith: Monolith) -> None:
    with transaction.atomic():
        Visit.objects.create(visit="1")
        outbox.add(ended("1"))
        with monolith.engine.connect() as other:
            assert other.scalar(select(func.count()).select_from(ROWS.rows)) == 0

    assert monolith.published == []
    monolith.drain()

    assert monolith.published == ["1"]
    assert monolith.bus.taken[0]["detail"]["data"]["lines"][0]["description"] == "THÉ 😀"


def test_an_event_of_a_transaction_that_was_rolled_back_was_never_there(monolith: Monolith) -> None:
    with rolled_back():
        outbox.add(ended("1"))
    monolith.drain()

    assert monolith.published == []
    assert ROWS.status(monolith.engine).waiting == 0


def test_an_event_of_a_savepoint_that_was_rolled_back_was_never_there_and_its_neighbours_are(
    monolith: Monolith,
) -> None:
    with transaction.atomic():
        outbox.add(ended("before"))
        with rolled_back():
            outbox.add(ended("within"))
        with transaction.atomic():
            outbox.add(ended("kept"))
        outbox.add(ended("after"))
    monolith.drain()

    assert sorted(monolith.published) == ["after", "before", "kept"]


def test_an_event_of_a_savepoint_goes_with_the_transaction_around_it(monolith: Monolith) -> None:
    with rolled_back(), transaction.atomic():
        outbox.add(ended("1"))

    assert ROWS.status(monolith.engine).waiting == 0


def test_outside_of_a_transaction_it_is_refused_with_what_to_write(monolith: Monolith) -> None:
    with pytest.raises(
        TransactionManagementError, match=r"on the database 'default': .*`with transaction\.atomic\(using='default'\):`"
    ):
        outbox.add(ended("1"))

    assert ROWS.status(monolith.engine).waiting == 0


def test_a_transaction_without_atomic_does_as_well(monolith: Monolith) -> None:
    transaction.set_autocommit(False)
    outbox.add(ended("rolled back"))
    transaction.rollback()
    outbox.add(ended("committed"))
    transaction.commit()
    transaction.set_autocommit(True)
    monolith.drain()

    assert monolith.published == ["committed"]


@pytest.fixture
def two(database_url: str, tmp_path: Path) -> Iterator[tuple[Engine, Engine]]:
    """The monolith on two databases, `default` and `archive`; both have an outbox."""
    archive = f"sqlite:///{tmp_path / 'archive.db'}"
    with databases(default=database_url, archive=archive):
        for alias in ("default", "archive"):
            call_command("migrate", database=alias, verbosity=0)
        engines = connect(database_url), connect(archive)
        yield engines
        for engine in engines:
            engine.dispose()


def test_an_event_goes_into_the_database_that_is_named(two: tuple[Engine, Engine]) -> None:
    treat("1", using="archive")
    treat("2", "3")

    assert [ROWS.status(engine).waiting for engine in two] == [2, 1]


def test_a_transaction_on_another_database_does_not_count_and_the_error_names_it(two: tuple[Engine, Engine]) -> None:
    with (
        transaction.atomic(using="archive"),
        pytest.raises(TransactionManagementError, match=r"under way is on 'archive': say using='archive'"),
    ):
        outbox.add(ended("1"))

    assert [ROWS.status(engine).waiting for engine in two] == [0, 0]


def test_by_default_an_event_goes_where_the_teams_routers_send_it(
    two: tuple[Engine, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    class ToArchive:
        def db_for_write(self, model: Any, **_: Any) -> str:
            return "archive"

    monkeypatch.setattr(router, "routers", [ToArchive()])
    with transaction.atomic(using="archive"):
        outbox.add(ended("1"))

    assert [ROWS.status(engine).waiting for engine in two] == [0, 1]


def test_a_broken_event_raises_in_the_monolith_and_nothing_is_written(monolith: Monolith) -> None:
    good = ended("1")
    broken = msgspec.structs.replace(good, id="x" * 257)

    with transaction.atomic(), pytest.raises(BrokenContract, match=r"envelope\.id"):
        outbox.add(good, broken)

    assert ROWS.status(monolith.engine).waiting == 0


def test_no_event_is_nothing_to_write(monolith: Monolith) -> None:
    with transaction.atomic():
        outbox.add()

    assert ROWS.status(monolith.engine).waiting == 0


def described(engine: Engine, table: str) -> dict[str, Any]:
    """What a database says of a table. How the numbers are made is each library's own: a sequence, or an identity."""
    found = inspect(engine)
    return {
        "columns": [
            (each["name"], str(each["type"]).upper(), each["nullable"], each["name"] == "id" or each["default"])
            for each in found.get_columns(table)
        ],
        "zones": {getattr(each["type"], "timezone", False) for each in found.get_columns(table)},
        "primary key": found.get_pk_constraint(table)["constrained_columns"],
        "indexes": sorted(
            (each["name"], each["column_names"], each["unique"], each.get("include_columns") or [])
            for each in found.get_indexes(table)
        ),
        "unique": found.get_unique_constraints(table),
        "checks": found.get_check_constraints(table),
        "foreign keys": found.get_foreign_keys(table),
    }


@pytest.mark.parametrize("made", [ROWS, AUDIT], ids=["framework's", "team's"])
def test_djangos_migrations_make_the_table_that_sqlalchemy_makes(monolith: Monolith, made: SqlAlchemyOutbox) -> None:
    by_django = described(monolith.engine, made.name)
    made.rows.drop(monolith.engine)
    made.create_all(monolith.engine)

    assert by_django == described(monolith.engine, made.name)
    assert len(by_django["columns"]) == 14


def test_numbers_of_rows_are_given_out_once_in_sqlite_too(sqlite: str) -> None:
    with databases(default=sqlite):
        call_command("migrate", verbosity=0)
        engine = create_engine(sqlite)
        with engine.connect() as connection:
            made = connection.scalar(text("SELECT sql FROM sqlite_master WHERE name = 'outbox_events'"))
        engine.dispose()

    assert "AUTOINCREMENT" in str(made)


def test_the_models_are_what_the_migrations_make_and_django_finds_no_fault_with_them(monolith: Monolith) -> None:
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    call_command("check", databases=["default"], fail_level="WARNING", verbosity=0)


def test_a_table_that_sqlalchemy_made_is_taken_over_with_its_rows(database_url: str) -> None:
    engine = connect(database_url)
    ROWS.create_all(engine)
    with engine.begin() as connection:
        ROWS.add(connection, ended("1"), key="one")
    with serving() as bus, databases(default=database_url):
        call_command("migrate", "offload", fake_initial=True, verbosity=0)
        call_command("migrate", verbosity=0)
        treat("2", key="one")
        with engine.begin() as connection:
            ROWS.add(connection, ended("3"), key="one")
        monolith = Monolith(database_url, engine, bus)
        monolith.drain()

        assert monolith.published == ["1", "2", "3"]
    engine.dispose()


def all_rows(connection: Connection, of: SqlAlchemyOutbox = ROWS) -> list[dict[str, Any]]:
    """The rows in their order, without what differs between any two."""
    rows = connection.execute(select(of.rows).order_by(of.rows.c.id)).mappings()
    return [{name: value for name, value in row.items() if name not in {"id", "written_at"}} for row in rows]


@pytest.mark.parametrize("key", [None, "x" * 255, "x" * 256, "with\0NUL"])
def test_a_row_is_the_one_that_sqlalchemy_would_have_written(monolith: Monolith, key: str | None) -> None:
    with transaction.atomic():
        outbox.add(ended("1"), key=key)
    with monolith.engine.begin() as connection:
        ROWS.add(connection, ended("1"), key=key)
    with monolith.engine.connect() as connection:
        by_django, by_sqlalchemy = all_rows(connection)

    assert by_django == by_sqlalchemy
    assert by_django["state"] == State.WAITING


def test_both_libraries_read_the_same_moment(monolith: Monolith) -> None:
    before = datetime.now(UTC)
    treat("1")
    after = datetime.now(UTC)
    monolith.drain()
    row = outbox.model._base_manager.get()
    with monolith.engine.connect() as connection:
        written, published = connection.execute(select(ROWS.rows.c.written_at, ROWS.rows.c.published_at)).one()

    assert (row.written_at, row.published_at) == (written, published)
    assert before <= written <= after
    assert row.published_at == monolith.now


def test_moments_can_be_compared_in_the_database(monolith: Monolith) -> None:
    # Without a fraction: SQLite compares texts. And from elsewhere: both libraries keep UTC.
    moment = datetime(2026, 12, 1, 9, 30, tzinfo=UTC)
    elsewhere = moment.astimezone(timezone(timedelta(hours=9)))
    with transaction.atomic():
        AuditEvent.objects.create(event="{}", state=State.WAITING, written_at=elsewhere)
    later = moment + timedelta(microseconds=1)
    with monolith.engine.connect() as connection:
        when = AUDIT.rows.c.written_at
        found = connection.execute(select(when).where(when == moment, when < later)).scalars().all()

    assert found == [moment]
    assert AuditEvent.objects.filter(written_at=moment, written_at__lt=later, retry_at=None).count() == 1
    assert AuditEvent.objects.filter(written_at__gt=elsewhere).count() == 0


def test_events_of_one_key_are_published_in_the_order_they_were_added(monolith: Monolith) -> None:
    treat("a1", "a2", key="a")
    treat("b1", key="b")
    with transaction.atomic():
        outbox.add(*(ended(f"a{number}") for number in range(3, 12)), key="a")
    monolith.drain()

    assert [visit for visit in monolith.published if visit[0] == "a"] == [f"a{number}" for number in range(1, 12)]
    assert "b1" in monolith.published


def test_more_events_than_one_statement_takes_keep_their_order(monolith: Monolith) -> None:
    visits = [str(number) for number in range(2_500)]
    with transaction.atomic():
        outbox.add(*(ended(visit) for visit in visits), key="one")
    with monolith.engine.connect() as connection:
        rows = all_rows(connection)

    assert [row["event_id"] for row in rows] == [f"visit.ended:{visit}" for visit in visits]


def test_an_event_that_is_added_again_goes_out_again_under_its_id_as_with_sqlalchemy(monolith: Monolith) -> None:
    treat("1")
    with transaction.atomic():
        outbox.add(ended("1"))
    with monolith.engine.begin() as connection:
        ROWS.add(connection, ended("1"))
    monolith.drain()

    assert monolith.published == ["1", "1", "1"]
    assert len({(taken["detail"]["source"], taken["detail"]["id"]) for taken in monolith.bus.taken}) == 1


def test_two_outboxes_of_one_database_do_not_see_each_others_rows(monolith: Monolith) -> None:
    with transaction.atomic():
        outbox.add(ended("1"))
        audit.add(ended("2"), ended("3"))
    monolith.drain()

    assert monolith.published == ["1"]
    assert AUDIT.status(monolith.engine).waiting == 2
    monolith.drain(monolith.relay(outbox=AUDIT))
    assert monolith.published == ["1", "2", "3"]
    assert (ROWS.status(monolith.engine).published, AUDIT.status(monolith.engine).published) == (1, 2)


def test_a_job_that_is_asked_for_in_a_transaction_exists_if_it_commits(monolith: Monolith) -> None:
    december = Days(first=date(2010, 12, 1), last=date(2010, 12, 31))
    for commits in (True, False):
        with transaction.atomic():
            outbox.add(wanted(WARD_REPORT, december, idempotency_key=f"commits-{commits}"))
            transaction.set_rollback(not commits)
    monolith.drain()

    assert monolith.bus.ids == ["job.wanted:commits-True"]
    assert monolith.bus.taken[0]["detail"]["data"]["input"] == {"first": "2010-12-01", "last": "2010-12-31"}


def test_operators_decide_on_a_held_event_of_djangos(monolith: Monolith) -> None:
    treat("a1", "a2", key="a")
    monolith.refuse("a1")
    relay = monolith.relay(patience=Patience(refusals=1))
    monolith.drain(relay)
    (held,) = ROWS.held(monolith.engine)
    row = outbox.model._base_manager.get(state=State.HELD)

    assert (held.row, held.event_id, held.behind) == (row.id, "visit.ended:a1", 1)
    assert row.reason == "MalformedDetail: told to"
    monolith.accept()
    assert ROWS.retry(monolith.engine) == 1
    monolith.drain(relay)
    assert monolith.published == ["a1", "a2"]


def test_a_row_whose_transaction_commits_late_is_published_all_the_same(postgresql: str) -> None:
    with serving() as bus, databases(default=postgresql, beside=postgresql):
        call_command("migrate", verbosity=0)
        monolith = Monolith(postgresql, connect(postgresql), bus)
        with transaction.atomic():
            outbox.add(ended("1"))
            treat("2", using="beside")
            monolith.drain()
            assert monolith.published == ["2"]
        monolith.drain()

        assert monolith.published == ["2", "1"]
        monolith.engine.dispose()


def python(code: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return subprocess.run(
        [sys.executable, "-c", code], check=False, env=environment, capture_output=True, encoding="utf-8"
    )


def test_without_django_the_import_says_what_to_install() -> None:
    done = python("import sys; sys.modules['django'] = None; import offload.client.django.outbox")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: offload.client.django needs the Python package 'django': install it,"
        " or use offload.client.outbox, which is the outbox for SQLAlchemy"
    )


def test_a_monolith_on_django_does_without_sqlalchemy_and_one_on_sqlalchemy_without_django() -> None:
    settings = "INSTALLED_APPS=['offload.client.django'], DATABASES={}"
    on_django = (
        "import sys; sys.modules['sqlalchemy'] = None; from django.conf import settings; import django\n"
        f"settings.configure({settings}); django.setup(); import offload.client.django.outbox"
    )
    on_sqlalchemy = "import sys; sys.modules['django'] = None; import offload.client.outbox, offload.client.relay"

    assert [(python(code).returncode, python(code).stderr) for code in (on_django, on_sqlalchemy)] == [(0, "")] * 2
