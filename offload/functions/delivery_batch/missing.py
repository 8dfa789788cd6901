"""All deliveries that should exist and do not: events that the bus took, and no subscription's delivery of them.

Which events there were, the journal's marks say; whether a delivery exists, its key says, which follows from the
event's. What was in an event only the archive has, so it is the planner that makes the deliveries: a replay of the
archive to its rule alone brings it the period's events again, and it plans what is not there yet. It would do so for
every subscription that wants the event today; by the replay's name it looks up which are meant here, and which of them
were there when the bus took it (`offload.runtime.webhooks_out.recoveries`). So nothing is published again that any
other consumer hears, and a second replay of the same period does nothing.

The archive has an event some minutes after the bus took it, so the period ends before them: what is counted here and is
not in the archive yet would be called lost after a replay that could not bring it.

A filter on an event's data cannot be evaluated without the data, nor can an event's tenant be told: what subscriptions
lack that depends on it is counted apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from offload.contracts.events.event import EventData
from offload.contracts.webhooks_out.filters import type_matches
from offload.contracts.webhooks_out.recovery import Recovered, Recovery
from offload.contracts.webhooks_out.tenants import is_decided_by_data, may_be_told
from offload.runtime import aws
from offload.runtime.jobs.run import Run
from offload.runtime.webhooks_out import items
from offload.runtime.webhooks_out.deliveries import Deliveries
from offload.runtime.webhooks_out.items import Record
from offload.runtime.webhooks_out.recoveries import Kept, Recoveries, is_owed

from .replay import Replay

# The journal has an event when its queue had, the archive when the bus took it.
_AROUND: Final = timedelta(minutes=1)
_PLANNED_WITHIN: Final = timedelta(minutes=2)
_QUIET: Final = timedelta(seconds=15)
_LOOK_EVERY: Final = 1.0  # seconds


class Lacking(NamedTuple):
    """Deliveries that do not exist: those that are owed, those that the data decide on, and of how many."""

    owed: list[str]
    undecided: list[str]
    subscriptions: int


class Missing:
    """Has the planner make what is missing."""

    def __init__(
        self,
        deliveries: Deliveries,
        recoveries: Recoveries,
        journal: str,
        replay: Replay,
        outward: Mapping[str, EventData],
    ) -> None:
        self._deliveries = deliveries
        self._recoveries = recoveries
        self._journal = journal
        self._replay = replay
        self._outward = outward

    def recover(
        self, wanted: Recovery, records: Sequence[Record], run: Run, now: datetime, settled: datetime
    ) -> Recovered:
        """Counts, then replays and waits for the planner; an attempt after the first one goes on with its replay.

        `settled` is until when the archive has every event.
        """
        kept = self._recoveries.kept(self._replay.name)
        until = min(wanted.until or settled, settled)
        if kept is not None and kept.recovery.until is not None:
            until = kept.recovery.until
        lacking = self._lacking(wanted, records, until, run)
        before = kept or Kept(
            recovery=replace(wanted, until=until),
            found=len(lacking.owed),
            at_most=len(lacking.undecided),
            subscriptions=lacking.subscriptions,
        )
        done = 0
        if not wanted.dry_run and before.found + before.at_most:
            self._recoveries.keep(self._replay.name, before)
            self._replay.run(wanted.since - _AROUND, min(until + _AROUND, now), run)
            left = self._planned(lacking, run)
            done = before.found - len(left.owed) + before.at_most - len(left.undecided)
        return Recovered(
            found=before.found,
            done=max(0, done),
            subscriptions=before.subscriptions,
            at_most=before.at_most,
            until=until if settled < now and until != wanted.until else None,
        )

    def _planned(self, lacking: Lacking, run: Run) -> Lacking:
        """What is still lacking once the planner has had the replayed events, or its time.

        Of those that the data decide on nobody knows how many are to come: they are waited for until none has come for
        a while.
        """
        changed = time.monotonic()
        until = changed + _PLANNED_WITHIN.total_seconds()
        while True:
            there = self._deliveries.there([*lacking.owed, *lacking.undecided])
            left = Lacking(
                [each for each in lacking.owed if each not in there],
                [each for each in lacking.undecided if each not in there],
                lacking.subscriptions,
            )
            now = time.monotonic()
            changed = now if there else changed
            settled = not left.owed and (not left.undecided or now - changed > _QUIET.total_seconds())
            if settled or now > until:
                return left
            lacking = left
            run.check()
            time.sleep(_LOOK_EVERY)

    def _lacking(self, wanted: Recovery, records: Sequence[Record], until: datetime, run: Run) -> Lacking:
        owed: list[str] = []
        undecided: list[str] = []
        subscriptions: set[str] = set()
        read = 0
        for page in self._marks():
            candidates: dict[str, tuple[Record, bool]] = {}
            for mark in page:
                source, _, event = mark["pk"]["S"].removeprefix("event#").partition("#")
                event_type, taken_at = mark["type"]["S"], items.moment(mark["sent"]["N"])
                example = self._outward.get(event_type)
                if example is None or source != example.SOURCE or not wanted.since <= taken_at <= until:
                    continue
                contract = type(example)
                for record in records:
                    if (
                        type_matches(record.types, event_type)
                        and may_be_told(record.tenant, contract)
                        and is_owed(record, event_type, taken_at, wanted)
                    ):
                        by_data = record.filter is not None or is_decided_by_data(record.tenant, contract)
                        candidates[items.delivery_id(record.id, source, event)] = record, by_data
            there = self._deliveries.there(candidates)
            for delivery, (record, by_data) in candidates.items():
                if delivery not in there:
                    (undecided if by_data else owed).append(delivery)
                    subscriptions.add(record.id)
            read += len(page)
            run.progress(read, None, "events looked at")
        return Lacking(owed, undecided, len(subscriptions))

    def _marks(self) -> Iterator[list[Any]]:
        pages = aws.dynamodb().get_paginator("scan").paginate(TableName=self._journal, ConsistentRead=True)
        for page in pages:
            yield [item for item in page["Items"] if item["sk"]["S"] == "mark"]
