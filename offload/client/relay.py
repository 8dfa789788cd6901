"""Publishes what the outbox holds. A process of its own; several may run at once.

`python -m offload.client.relay --database-url URL --bus NAME [--claims-bucket NAME]`
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Engine, Row, Select, create_engine, delete, exists, or_, select, update
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from offload.client.outbox import OPEN, Outbox, State
from offload.client.publisher import Publisher, Refusal, Retries
from offload.client.signals import set_by_signals
from offload.contracts.backoff import full_jitter
from offload.contracts.events.entry import Entry
from offload.contracts.events.event import BrokenContract
from offload.contracts.visible import visible

# Databases that lock rows and let others pass them by; their rows stay locked while their events are published.
_LOCKING: Final = frozenset({"postgresql", "mysql", "mariadb"})
_CLEAN_UP_ROWS: Final = 1000
_MARK_ATTEMPTS: Final = 5
_REASON_LENGTH: Final = 1000

_log = logging.getLogger("offload.client.relay")


class RelayStopped(Exception):
    """The relay gave up: the database, or the bus for a reason that does not pass, failed time after time."""


@dataclass(frozen=True)
class Patience:
    """When the relay tries again, and when it stops trying. All in seconds, doubling, with full jitter."""

    refusals: int = 3
    """Passes that refuse a row for good before it is held."""
    row_base: float = 1.0
    row_cap: float = 300.0
    failures: int = 10
    """Passes in a row that fail on the database, or on the bus for good, before the relay ends."""
    base: float = 0.5
    cap: float = 30.0


@dataclass
class Pass:
    """What one pass over the outbox did, in rows."""

    taken: int = 0
    published: int = 0
    failed: int = 0
    held: int = 0
    refusal: Refusal | None = None
    """Why the bus refused everybody, if it did; nothing is held against the rows then."""


class _Mark(NamedTuple):
    id: int
    event_id: str
    refusal: Refusal | None
    values: dict[str, Any]


class Relay:
    """Takes the first open row of each key, publishes it, marks it.

    At no time are two rows of one key under way, so a later one cannot overtake an earlier one that fails. A crash
    after the bus took an event and before its row was marked publishes it again, under the same id; consumers do
    nothing with it the second time.
    """

    def __init__(
        self,
        engine: Engine,
        publisher: Publisher,
        *,
        outbox: Outbox | None = None,
        batch: int = 100,
        lease: timedelta = timedelta(seconds=60),
        retention: timedelta = timedelta(days=7),
        idle: timedelta = timedelta(seconds=1),
        clean_up_every: timedelta = timedelta(minutes=10),
        patience: Patience | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        """`batch` is rows a pass; `lease` how long SQLite leaves a dead relay its rows: longer than a publish takes."""
        name = engine.dialect.name
        if name not in _LOCKING and name != "sqlite":
            raise ValueError(f"the outbox runs on PostgreSQL, MySQL, MariaDB and SQLite, not on '{name}'")
        if lease.total_seconds() <= publisher.retries.deadline:
            raise ValueError(
                f"the lease of {lease.total_seconds():g} s must be longer than the publisher's deadline of "
                f"{publisher.retries.deadline:g} s, or two relays publish the same rows"
            )
        self._locks = name in _LOCKING
        # Each statement must see what other relays have committed by then, whatever the team's engine does by default.
        self._engine = engine.execution_options(isolation_level="READ COMMITTED") if self._locks else engine
        self._publisher = publisher
        self._rows = (outbox or Outbox()).rows
        self._batch = batch
        self._lease = lease
        self._retention = retention
        self._idle = idle
        self._clean_up_every = clean_up_every
        self._patience = patience or Patience()
        self._now = now
        self._jitter = jitter

    def run(self, stop: threading.Event) -> None:
        """Passes over the outbox until `stop` is set; then ends the pass under way. Raises RelayStopped."""
        patience = self._patience
        failures = refused = 0
        clean_up_at = self._now()
        while not stop.is_set():
            try:
                done = self.run_once()
                if self._now() >= clean_up_at:
                    self.clean_up()
                    clean_up_at = self._now() + self._clean_up_every
            except (OperationalError, InterfaceError, PoolTimeout) as error:
                failures += 1
                _say(logging.ERROR, "database failed", failures=failures, error=one_line(error))
                if failures >= patience.failures:
                    raise RelayStopped(f"the database failed {failures} times in a row: {one_line(error)}") from error
                stop.wait(self._backoff(patience.base, patience.cap, failures))
                continue
            if done.refusal is None:
                failures = refused = 0
                if not done.taken:
                    stop.wait(self._idle.total_seconds())
                continue
            refused += 1
            failures = 0 if done.refusal.transient else failures + 1
            _say(logging.ERROR, "bus refused", times=refused, code=done.refusal.code, error=done.refusal.message)
            if failures >= patience.failures:
                raise RelayStopped(
                    f"the bus '{self._publisher.bus}' refused {failures} times in a row: {done.refusal.message}"
                )
            stop.wait(self._backoff(patience.base, patience.cap, refused))

    def run_once(self) -> Pass:
        """One pass. Raises what SQLAlchemy does; the rows are then as they were, and may have been published."""
        done = self._pass_locked() if self._locks else self._pass_leased()
        if done.taken and done.refusal is None:
            _say(logging.INFO, "pass", published=done.published, failed=done.failed, held=done.held)
        return done

    def clean_up(self) -> int:
        """Deletes published and discarded rows that are older than the retention; returns how many."""
        rows, deleted = self._rows, 0
        oldest_kept = self._now() - self._retention
        old = (
            select(rows.c.id)
            .where(rows.c.state.in_((State.PUBLISHED, State.DISCARDED)), rows.c.published_at <= oldest_kept)
            .limit(_CLEAN_UP_ROWS)
        )
        while True:
            with self._engine.begin() as connection:
                ids = connection.scalars(old.with_for_update(skip_locked=True) if self._locks else old).all()
                if ids:
                    connection.execute(delete(rows).where(rows.c.id.in_(ids)))
            deleted += len(ids)
            if len(ids) < _CLEAN_UP_ROWS:
                break
        if deleted:
            _say(logging.INFO, "cleaned up", rows=deleted)
        return deleted

    def _pass_locked(self) -> Pass:
        """Holds the rows' locks while their events are published: a relay that dies lets go of them at once."""
        with self._engine.begin() as connection:
            taken = connection.execute(self._heads(self._now()).with_for_update(skip_locked=True)).all()
            done, marks = self._publish(taken)
            self._mark(connection, marks)
        return done

    def _pass_leased(self) -> Pass:
        """SQLite has one writer: the rows are leased, and the monolith writes on while they are published."""
        rows, token, now = self._rows, secrets.token_hex(16), self._now()
        heads = self._heads(now).with_only_columns(rows.c.id)
        lease = (
            update(rows)
            .where(rows.c.id.in_(heads))
            .values(lease=token, leased_until=now + self._lease)
            .returning(rows.c.id, rows.c.event_id, rows.c.event, rows.c.attempts, rows.c.refusals)
        )
        with self._engine.begin() as connection:
            taken = sorted(connection.execute(lease).all(), key=lambda row: int(row.id))
        done, marks = self._publish(taken)
        for attempt in range(1, _MARK_ATTEMPTS + 1):
            # What is published already would go out again if another writer's lock lost us the mark.
            try:
                with self._engine.begin() as connection:
                    self._mark(connection, marks, token)
                break
            except OperationalError:
                if attempt == _MARK_ATTEMPTS:
                    raise
        return done

    def _heads(self, now: datetime) -> Select[Any]:
        """The first open row of each key, where it is due."""
        rows, earlier = self._rows, self._rows.alias("earlier")
        blocked = exists().where(
            earlier.c.ordering_key == rows.c.ordering_key, earlier.c.state.in_(OPEN), earlier.c.id < rows.c.id
        )
        heads = (
            select(rows.c.id, rows.c.event_id, rows.c.event, rows.c.attempts, rows.c.refusals)
            .where(rows.c.state == State.WAITING, or_(rows.c.retry_at.is_(None), rows.c.retry_at <= now), ~blocked)
            .order_by(rows.c.id)
            .limit(self._batch)
        )
        return heads if self._locks else heads.where(or_(rows.c.leased_until.is_(None), rows.c.leased_until <= now))

    def _publish(self, taken: Sequence[Row[Any]]) -> tuple[Pass, list[_Mark]]:
        """Sends the rows' events; returns what is to be written about each row."""
        done = Pass(taken=len(taken))
        entries: list[Entry] = []
        sent_rows: list[Row[Any]] = []
        marks: list[_Mark] = []
        for row in taken:
            try:
                entries.append(Entry.read(row.event.encode()))
                sent_rows.append(row)
            except BrokenContract as error:
                marks.append(self._refused(row, Refusal("BrokenContract", str(error), transient=False)))
        sent = self._publisher.send(entries)
        published = {"state": State.PUBLISHED, "published_at": self._now()}
        for at, row in enumerate(sent_rows):
            refusal = sent.refusals.get(at)
            if refusal is None:
                done.published += 1
                marks.append(_Mark(row.id, row.event_id, None, published))
            elif refusal.everyone:
                done.refusal = refusal
                marks.append(_Mark(row.id, row.event_id, refusal, {}))
            else:
                marks.append(self._refused(row, refusal))
        for mark in marks:
            if mark.refusal is None or mark.refusal.everyone:
                continue
            done.failed += 1
            held = mark.values.get("state") == State.HELD
            done.held += held
            _say(
                logging.ERROR,
                "held" if held else "failed",
                event_id=mark.event_id,
                row=mark.id,
                code=mark.refusal.code,
                error=mark.refusal.message,
            )
        return done, marks

    def _refused(self, row: Row[Any], refusal: Refusal) -> _Mark:
        patience = self._patience
        refusals = row.refusals + (0 if refusal.transient else 1)
        values: dict[str, Any] = {
            "attempts": row.attempts + 1,
            "refusals": refusals,
            "reason": f"{refusal.code}: {refusal.message}"[:_REASON_LENGTH],
            "retry_at": self._now()
            + timedelta(seconds=self._backoff(patience.row_base, patience.row_cap, row.attempts + 1)),
        }
        if refusals >= patience.refusals:
            values |= {"state": State.HELD, "retry_at": None}
        return _Mark(row.id, row.event_id, refusal, values)

    def _mark(self, connection: Connection, marks: Sequence[_Mark], token: str | None = None) -> None:
        rows = self._rows
        released: dict[str, Any] = {"lease": None, "leased_until": None}
        published = [mark for mark in marks if mark.refusal is None]
        if published:
            # Even when the lease was lost meanwhile: it is on the bus.
            connection.execute(
                update(rows)
                .where(rows.c.id.in_([mark.id for mark in published]), rows.c.state == State.WAITING)
                .values({**published[0].values, **released})
            )
        for mark in marks:
            if mark.refusal is not None and (mark.values or token):
                statement = update(rows).where(rows.c.id == mark.id).values({**mark.values, **released})
                connection.execute(statement.where(rows.c.lease == token) if token else statement)

    def _backoff(self, base: float, cap: float, attempt: int) -> float:
        return full_jitter(attempt, base=base, cap=cap, uniform=self._jitter)


def main(arguments: Sequence[str] | None = None) -> int:
    """The relay as a process: runs until SIGTERM or SIGINT, JSON log lines on stderr; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m offload.client.relay", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--database-url",
        default=os.environ.get("OFFLOAD_DATABASE_URL"),
        help="SQLAlchemy URL of the "
        "monolith's database; or the variable OFFLOAD_DATABASE_URL, which keeps passwords off `ps`",
    )
    parser.add_argument("--bus", required=True, help="name or ARN of the event bus")
    parser.add_argument("--claims-bucket", help="bucket for the data of events that are too large for the bus")
    parser.add_argument("--endpoint-url", help="of AWS, when it is not AWS itself")
    parser.add_argument("--table", default="outbox_events")
    parser.add_argument("--schema")
    parser.add_argument("--batch", type=int, default=100, help="rows a pass")
    parser.add_argument("--idle", type=float, default=1.0, help="seconds between looks at an empty outbox")
    parser.add_argument("--lease", type=float, default=60.0, help="SQLite: seconds until a dead relay's rows are free")
    parser.add_argument("--retention-days", type=float, default=7.0, help="how long published rows are kept")
    parser.add_argument("--until-empty", action="store_true", help="end once nothing is left that can be published now")
    options = parser.parse_args(arguments)
    if not options.database_url:
        parser.error("--database-url is missing, and OFFLOAD_DATABASE_URL is not set")
    log_json()
    try:
        engine = connect(options.database_url)
        relay = Relay(
            engine,
            # A pass ends within a supervisor's usual grace period.
            Publisher.connect(
                options.bus,
                claims_bucket=options.claims_bucket,
                endpoint_url=options.endpoint_url,
                retries=Retries(deadline=min(10.0, options.lease / 2)),
            ),
            outbox=Outbox(options.table, schema=options.schema),
            batch=options.batch,
            lease=timedelta(seconds=options.lease),
            retention=timedelta(days=options.retention_days),
            idle=timedelta(seconds=options.idle),
        )
        if options.until_empty:
            return _until_empty(relay)
        run_until_signalled(relay)
    except (RelayStopped, SQLAlchemyError, ValueError) as error:
        sys.stderr.write(f"relay: {visible(one_line(error))}\n")
        return 1
    return 0


def connect(database_url: str) -> Engine:
    """An engine for the relay; raises ValueError for a URL or driver that is not there, without the password."""
    try:
        engine = create_engine(database_url, pool_pre_ping=True)
    except ArgumentError as error:
        raise ValueError("the database URL is not one: write it as postgresql+psycopg://user@host/name") from error
    except ModuleNotFoundError as error:
        raise ValueError(
            f"the database URL needs the Python package '{error.name}': install it, or name another driver in the URL"
        ) from error
    if engine.dialect.name == "sqlite":
        # One writer at a time: wait for the monolith's transaction rather than fail on it.
        engine = create_engine(database_url, connect_args={"timeout": 30})
    return engine


def run_until_signalled(relay: Relay) -> None:
    """Runs the relay until SIGTERM or SIGINT; the pass under way is ended. Raises RelayStopped."""
    stop = threading.Event()
    with set_by_signals(stop):
        _say(logging.INFO, "relay started")
        relay.run(stop)
        _say(logging.INFO, "relay stopped")


def _until_empty(relay: Relay) -> int:
    while True:
        done = relay.run_once()
        if done.refusal is not None:
            raise RelayStopped(f"the bus refused: {done.refusal.message}")
        if not done.taken:
            return 0


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def log_json() -> None:
    """Sends the process's log to stderr, a JSON object a line."""
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    _log.setLevel(logging.INFO)


def _say(level: int, message: str, **fields: Any) -> None:
    _log.log(level, message, extra={"fields": fields})


def one_line(error: Exception) -> str:
    """The driver's own words; SQLAlchemy's add the statement with its parameters, which are payload."""
    text = str(error.orig) if isinstance(error, DBAPIError) and error.orig is not None else str(error)
    return " ".join(text.split()) or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
