"""All that was given up since a time, sent again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final

from msgspec import UNSET

from offload.contracts.webhooks_out.api import DeliveryFilters
from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.recovery import Recovered, Recovery
from offload.contracts.webhooks_out.subscription import Delivery, DeliveryState, SubscriptionState, Why
from offload.runtime.jobs.run import Run
from offload.runtime.webhooks_out import items, listing
from offload.runtime.webhooks_out.deliveries import Deliveries
from offload.runtime.webhooks_out.items import Record
from offload.runtime.webhooks_out.refusals import NoSuchDelivery, PayloadGone, StillWaiting
from offload.runtime.webhooks_out.tokens import QueueTokens

_AT_ONCE: Final = 100


class Failed:
    """Sends given up deliveries again."""

    def __init__(self, deliveries: Deliveries, tokens: QueueTokens, policy: Policy) -> None:
        self._deliveries = deliveries
        self._tokens = tokens
        self._policy = policy

    def recover(self, wanted: Recovery, records: Sequence[Record], run: Run) -> Recovered:
        """Counts, then sends again; what waits already, or was sent again meanwhile, is left alone."""
        found: list[tuple[Record, str]] = []
        gone = 0
        for record in records:
            given_up = self._given_up(wanted, record)
            while batch := list(islice(given_up, _AT_ONCE)):
                kept = self._deliveries.kept(items.body_key(each.source, each.event) for each in batch)
                ready = [each.id for each in batch if items.body_key(each.source, each.event) in kept]
                found += [(record, name) for name in ready]
                gone += len(batch) - len(ready)
                run.check()
        subscriptions = len({record.id for record, _ in found})
        if wanted.dry_run:
            return Recovered(found=len(found), done=0, subscriptions=subscriptions, gone=gone)
        if run.attempt > 1:
            # The attempt before this one may have ended between what it wrote and the senders' tokens.
            for record in records:
                self._wake(record)
        done = 0
        for start in range(0, len(found), _AT_ONCE):
            run.progress(start, len(found), "sent again")
            portion = found[start : start + _AT_ONCE]
            for record, name in portion:
                try:
                    self._deliveries.send_again(name, ordered=record.ordered)
                except (StillWaiting, NoSuchDelivery):
                    continue
                except PayloadGone:
                    gone += 1
                    continue
                done += 1
            for record in {record.id: record for record, _ in portion}.values():
                self._wake(record)
        return Recovered(found=len(found), done=done, subscriptions=subscriptions, gone=gone)

    def _given_up(self, wanted: Recovery, record: Record) -> Iterator[Delivery]:
        # They are listed by when they were owed. What was owed longer ago than bodies are kept has none any more.
        owed = DeliveryFilters(
            state=DeliveryState.GIVEN_UP,
            type=UNSET if wanted.type is None else wanted.type,
            since=wanted.since - self._policy.payload_kept,
        )
        for each in listing.every(self._deliveries.table, record.id, owed):
            # It would be given up again.
            if each.reason is Why.ANOTHER_TENANTS:
                continue
            if wanted.since <= each.changed_at and (wanted.until is None or each.changed_at <= wanted.until):
                yield each

    def _wake(self, record: Record) -> None:
        if record.state is SubscriptionState.ACTIVE:
            self._tokens.send(record.id, proven=False)
