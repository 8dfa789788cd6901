"""Pages of jobs, newest first, of the index by type."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from offload.contracts.events.event import FIRST_MOMENT, LAST_MOMENT
from offload.contracts.jobs.job import Job, State
from offload.runtime.jobs import items
from offload.runtime.jobs.items import job_of
from offload.runtime.jobs.table import JobTable

# Of inputs and results in a page, or one job: Lambda answers with 6 MB at the most (gettingstarted-limits.html, read
# 2026-11-27), and a page has room for as much again of the rest of 200 jobs.
_PAGE_BYTES: Final = 2_500_000


@dataclass(frozen=True)
class Page:
    """Jobs, newest first; `cursor` asks for those after them, None at the end."""

    jobs: Sequence[Job]
    cursor: str | None


class Listing:
    """The jobs of some types, page by page."""

    def __init__(self, table: JobTable) -> None:
        self._table = table

    def page(
        self,
        *,
        types: Sequence[str],
        state: State | None = None,
        since: datetime | None = None,
        tag: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        """Jobs of some types, newest first. Jobs added meanwhile neither shift nor repeat a page.

        A page of large jobs has fewer than `limit`: it has to fit into an answer, and goes on at its cursor. A job may
        be missing for about a second after its submit: the index follows the table.
        """
        # Without a filter no shard gives more than the whole page, and one to know that there is another; with one, any
        # number of jobs is looked through.
        at_once = None if state or tag else limit + 1
        shards = [
            self._listed(items.type_shard(name, shard), since, cursor, at_once)
            for name in types
            for shard in range(items.TYPE_SHARDS)
        ]
        found = heapq.merge(*shards, key=lambda item: item["listed"]["S"], reverse=True)
        jobs: list[Job] = []
        last, size = None, 0
        for item in found:
            if (state and item["state"]["S"] != state) or (tag and {"S": tag} not in item["tags"]["L"]):
                continue
            job = job_of(item)
            size += len(job.input) + len(job.result or b"")
            if len(jobs) == limit or (jobs and size > _PAGE_BYTES):
                return Page(jobs, last)
            jobs.append(job)
            last = item["listed"]["S"]
        return Page(jobs, None)

    def _listed(
        self, shard: dict[str, Any], since: datetime | None, cursor: str | None, at_once: int | None
    ) -> Iterator[dict[str, Any]]:
        # Years of fewer than four digits, and moments at the calendar's ends, have no place in the order of texts.
        since = min(max(since, FIRST_MOMENT), LAST_MOMENT) if since else None
        low = f"{since.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}" if since else "0"
        high = cursor or "9999-12-31T23:59:59"
        # DynamoDB refuses a BETWEEN whose ends are the wrong way round: here it is an end of the list.
        if low > high:
            return
        for item in self._table.query(
            IndexName="types",
            KeyConditionExpression="type_shard = :shard AND listed BETWEEN :low AND :high",
            ExpressionAttributeValues={
                ":shard": shard,
                ":low": {"S": low},
                ":high": {"S": high},
            },
            ScanIndexForward=False,
            PaginationConfig={"PageSize": at_once},
        ):
            if item["listed"]["S"] != cursor:
                yield item
