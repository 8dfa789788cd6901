"""The import of an orders file, step by step; each one can be killed and done again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from msgspec import Struct

from offload.runtime import aws
from offload.runtime.jobs.run import Permanent
from offload.runtime.settings import Settings
from shop.contracts.jobs.order_import import Imported, OrdersFile
from shop.orders import UnreadableOrders
from shop.uploads import NoSuchUpload

from .bus import Bus
from .chunks import Chunk, ChunkImport, ChunkSize, Place, join_rejects
from .objects import ObjectChanged
from .opening import Opened, open_orders, read_apart

CHUNK_ROWS: Final = 2_000
# Lambda: 3,000 operations a durable execution (durable-functions limits, read 2026-11-24); a rest is one too.
CHUNKS_AT_MOST: Final = 2_000
CHUNKS_BETWEEN_RESTS: Final = 4

_StructT = TypeVar("_StructT", bound=Struct)


class OrderImportSettings(Settings, frozen=True, kw_only=True):
    """Where events go, and the data of large ones."""

    offload_bus: str
    offload_claims_bucket: str


class DurableRun(Protocol):
    """What the import asks of its durable run."""

    @property
    def traceparent(self) -> str | None:
        """The submitter's."""

    @property
    def bucket(self) -> str:
        """The jobs' bucket."""

    def folder(self) -> str:
        """Where this attempt's files go, in the jobs' bucket."""

    def step(self, name: str, work: Callable[[], _StructT], result: type[_StructT]) -> _StructT:
        """Does the work, unless it was done before; then it gives back what came of it."""

    def rest(self, name: str) -> None:
        """Ends this invocation; the next one goes on from here."""

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Tells how far it is."""


class Joined(Struct, frozen=True, kw_only=True):
    """The object with all rejected rows."""

    key: str


class OrderImport:
    """One file on its way to the bus."""

    def __init__(
        self, orders: OrdersFile, run: DurableRun, settings: OrderImportSettings, *, chunk_rows: int = CHUNK_ROWS
    ) -> None:
        self._name = orders.file
        self._run = run
        self._settings = settings
        self._chunk_rows = chunk_rows
        self._apart: frozenset[str] | None = None

    def result(self) -> Imported:
        """Imports the file; raises Permanent for one that cannot be read."""
        run = self._run
        opened = run.step("open", self._open, Opened)
        size = ChunkSize(self._chunk_rows, -(-opened.size // CHUNKS_AT_MOST))
        at = Place(offset=opened.first, lines=opened.lines)
        number = rows = published = rejected = 0
        parts: list[str] = []
        while at.offset < opened.size:
            if number and number % CHUNKS_BETWEEN_RESTS == 0:
                run.rest(f"rest-{number // CHUNKS_BETWEEN_RESTS}")
            number += 1
            chunk = self._publish(number, opened, at, size)
            at = chunk.end
            rows, published, rejected = rows + chunk.rows, published + chunk.published, rejected + chunk.rejected
            if chunk.rejects:
                parts.append(chunk.rejects)
            run.progress(rows, opened.rows, f"{published:,} invoices published, {rejected:,} rows rejected")
        if rows != opened.rows:
            raise Permanent(f"{self._name}: {rows:,} of {opened.rows:,} rows were read: report this as a defect")
        rejects = self._join(parts, opened) if parts else None
        return Imported(
            rows=opened.rows, invoices=opened.invoices, published=published, rejected=rejected, rejects=rejects
        )

    def _open(self) -> Opened:
        try:
            return open_orders(aws.s3(), self._run.bucket, self._name, self._run.folder())
        except (NoSuchUpload, UnreadableOrders, ObjectChanged) as error:
            raise Permanent(str(error)) from error

    def _publish(self, number: int, opened: Opened, at: Place, size: ChunkSize) -> Chunk:
        def work() -> Chunk:
            if self._apart is None:
                self._apart = read_apart(aws.s3(), self._run.bucket, opened)
            chunk = ChunkImport(
                aws.s3(),
                self._run.bucket,
                opened,
                name=self._name,
                apart=self._apart,
                bus=Bus(self._settings.offload_bus, self._settings.offload_claims_bucket),
                traceparent=self._run.traceparent,
            )
            try:
                return chunk.run(at, size, f"{self._run.folder()}rejects-{number}.csv")
            except (UnreadableOrders, ObjectChanged) as error:
                raise Permanent(f"{error}: submit the import again") from error

        return self._run.step(f"publish-{number}", work, Chunk)

    def _join(self, parts: list[str], opened: Opened) -> str:
        key = f"{self._run.folder()}rejects.csv"

        def work() -> Joined:
            join_rejects(aws.s3(), self._run.bucket, parts, opened.header, key)
            return Joined(key=key)

        return self._run.step("rejects", work, Joined).key
