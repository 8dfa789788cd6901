"""The transactional outbox: events written in the monolith's own database transaction, published after its commit.

`Outbox.add` writes, `offload.client.relay` publishes. An event of a transaction that was rolled back was never there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Dialect,
    Engine,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import UnboundExecutionError
from sqlalchemy.types import TypeDecorator

from offload.client.outbox_rows import (
    DEFAULT_TABLE,
    INDEXES,
    KEY_LENGTH,
    LEASE_LENGTH,
    NAME_LENGTH,
    OPEN,
    STATE_LENGTH,
    State,
    index_name,
    new_rows,
)
from offload.contracts.events.event import Event

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, scoped_session

__all__ = ["OPEN", "HeldEvent", "Outbox", "State", "Status", "UtcMoment"]


class UtcMoment(TypeDecorator[datetime]):
    """A moment, kept as UTC without a zone: what every database has and compares alike."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> Any:
        """MySQL's own default would drop the fraction of the second."""
        kind = mysql.DATETIME(fsp=6) if dialect.name in {"mysql", "mariadb"} else DateTime()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To the database: an aware moment."""
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From the database: aware, in UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


@dataclass(frozen=True)
class HeldEvent:
    """A row that a person has to decide on."""

    row: int
    event_id: str
    type: str
    key: str
    written_at: datetime
    reason: str
    behind: int
    """Rows of the same key that wait for it."""


@dataclass(frozen=True)
class Status:
    """How an outbox stands. Published rows count until they are cleaned up."""

    waiting: int
    held: int
    published: int
    discarded: int
    oldest_waiting: datetime | None
    """When the oldest waiting row was written."""


class Outbox:
    """The outbox table of one database: its definition, writing to it, and what operators ask of it."""

    def __init__(self, name: str = DEFAULT_TABLE, *, schema: str | None = None) -> None:
        self.name = name
        self.schema = schema
        self.rows: Final = self.table(MetaData())
        """The table as this object's own statements use it; `table` defines it in the team's MetaData."""

    def table(self, metadata: MetaData) -> Table:
        """Defines the table in the team's own MetaData, for its migrations and `create_all`; returns it."""
        if self._qualified in metadata.tables:
            return metadata.tables[self._qualified]
        table = Table(
            self.name,
            metadata,
            # Insertion order. A number may become visible after a higher one: no reader may keep a high-water mark.
            Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
            Column("event_id", String(NAME_LENGTH), nullable=False),
            Column("event_type", String(NAME_LENGTH), nullable=False),
            Column("ordering_key", String(KEY_LENGTH), nullable=False),
            Column("event", Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb"), nullable=False),
            Column("state", String(STATE_LENGTH), nullable=False),
            Column("written_at", UtcMoment(), nullable=False),
            Column("published_at", UtcMoment()),
            Column("attempts", Integer, nullable=False, default=0),
            Column("refusals", Integer, nullable=False, default=0),
            Column("retry_at", UtcMoment()),
            Column("reason", Text()),
            Column("lease", String(LEASE_LENGTH)),
            Column("leased_until", UtcMoment()),
            schema=self.schema,
            sqlite_autoincrement=True,
        )
        for end, columns in INDEXES.items():
            Index(index_name(self.name, end), *(table.c[column] for column in columns))
        return table

    @property
    def _qualified(self) -> str:
        """The table's key in a MetaData."""
        return f"{self.schema}.{self.name}" if self.schema else self.name

    def create_all(self, engine: Engine) -> None:
        """Creates the table and its indexes unless they exist; for teams without migrations, and for tests."""
        self.rows.metadata.create_all(engine)

    def add(
        self, transaction: Session | scoped_session[Session] | Connection, *events: Event[Any], key: str | None = None
    ) -> None:
        """Writes events in the caller's transaction: published after its commit, or not at all.

        Events of one `key` are published in the order they were added; by default the key is the event's subject.
        Of a Session with several binds it takes the one of the outbox's table, else the one of the MetaData that the
        table is in. Raises BrokenContract with the event's id and the field, and UnboundExecutionError for a Session
        in which that cannot be told, before anything is written.
        """
        if isinstance(transaction, Engine):
            raise TypeError(
                "outbox.add needs the Session or Connection whose transaction writes the fact, not an Engine"
            )
        rows = new_rows(events, key)
        if not rows:
            return
        if isinstance(transaction, Connection):
            transaction.execute(insert(self.rows), rows)
            return
        bind = self._bind_in(transaction)
        try:
            transaction.execute(insert(self.rows), rows, bind_arguments={} if bind is None else {"bind": bind})
        except UnboundExecutionError as error:
            raise self._unbound("this Session has no bind for it") from error

    def _bind_in(self, transaction: Session | scoped_session[Session]) -> Engine | Connection | None:
        """The bind of a Session's that the table belongs to; None where the Session itself has to say.

        SQLAlchemy's own look-up knows mapped classes and the very tables of `binds`. For any other it takes the
        Session's default: another database than the fact's, and so no transaction.
        """
        from sqlalchemy.orm import Session, scoped_session

        session = transaction() if isinstance(transaction, scoped_session) else transaction
        if type(session).get_bind is not Session.get_bind:
            return None  # a router of the team's own
        # By classes, and by mapped and other tables. Public from SQLAlchemy 2.1 on.
        binds: Mapping[Any, Engine | Connection] = getattr(session, "binds", getattr(session, "_Session__binds", {}))
        named = {bind for key, bind in binds.items() if isinstance(key, Table) and key.key == self._qualified}
        beside = {bind for key, bind in binds.items() if self._qualified in getattr(_metadata(key), "tables", ())}
        found = named or beside or (set(binds.values()) if session.bind is None else set())
        if len(found) > 1:
            raise self._unbound("this Session has several binds that it may belong to")
        return next(iter(found), None)

    def _unbound(self, why: str) -> UnboundExecutionError:
        return UnboundExecutionError(
            f"outbox.add cannot tell in which database the table {self._qualified} is: {why}. Name it among the binds:"
            f" Session(binds={{..., outbox.rows: engine}})"
        )

    def status(self, engine: Engine) -> Status:
        """Counts the rows by state."""
        rows = self.rows
        with engine.connect() as connection:
            by_state = select(rows.c.state, func.count()).group_by(rows.c.state)
            counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(by_state)}
            oldest = connection.scalar(select(func.min(rows.c.written_at)).where(rows.c.state == State.WAITING))
        return Status(
            waiting=counts.get(State.WAITING, 0),
            held=counts.get(State.HELD, 0),
            published=counts.get(State.PUBLISHED, 0),
            discarded=counts.get(State.DISCARDED, 0),
            oldest_waiting=oldest,
        )

    def held(self, engine: Engine, *, limit: int = 100) -> list[HeldEvent]:
        """The rows that a person has to decide on, oldest first."""
        rows, later = self.rows, self.rows.alias()
        behind = (
            select(func.count())
            .where(later.c.ordering_key == rows.c.ordering_key, later.c.state.in_(OPEN), later.c.id > rows.c.id)
            .scalar_subquery()
        )
        statement = (
            select(
                rows.c.id,
                rows.c.event_id,
                rows.c.event_type,
                rows.c.ordering_key,
                rows.c.written_at,
                rows.c.reason,
                behind,
            )
            .where(rows.c.state == State.HELD)
            .order_by(rows.c.id)
            .limit(limit)
        )
        with engine.connect() as connection:
            return [HeldEvent(*row) for row in connection.execute(statement)]

    def retry(self, engine: Engine, ids: Sequence[int] | None = None) -> int:
        """Lets held rows be published again, all of them or those of `ids`; returns how many."""
        return self._decide(engine, ids, {"state": State.WAITING, "refusals": 0, "retry_at": None})

    def discard(self, engine: Engine, ids: Sequence[int]) -> int:
        """Gives held rows up, so that what waits behind them goes on; returns how many."""
        return self._decide(engine, ids, {"state": State.DISCARDED, "published_at": datetime.now(UTC)})

    def _decide(self, engine: Engine, ids: Sequence[int] | None, values: dict[str, Any]) -> int:
        statement = update(self.rows).where(self.rows.c.state == State.HELD).values(values)
        if ids is not None:
            statement = statement.where(self.rows.c.id.in_(ids))
        with engine.begin() as connection:
            return connection.execute(statement).rowcount


def _metadata(key: Any) -> Any:
    """The MetaData of a class or table that a Session has a bind for; None where it has none."""
    return getattr(key, "metadata", None)
