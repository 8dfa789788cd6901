"""Sends what subscriptions are owed: rounds of attempts at one endpoint, many endpoints at a time.

A token in the queue says no more than "look at this subscription". Whoever takes its lease sends in rounds: as many
deliveries at once as the endpoint has shown that it bears, then their outcomes in one transaction, then the next round,
until nothing is due, the endpoint is parked or has become slow, its rate is used up, or the invocation's time is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from offload.contracts.events.event import EventData
from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.subscription import Attempt, SubscriptionState, Why
from offload.contracts.webhooks_out.tenants import is_told_by
from offload.runtime.log import Logger
from offload.runtime.webhooks_out import health as healths
from offload.runtime.webhooks_out import retries
from offload.runtime.webhooks_out.deliveries import LEASE, Deliveries, Lease, Outcome
from offload.runtime.webhooks_out.health import Round, Signal
from offload.runtime.webhooks_out.items import Entry, Holding, Record
from offload.runtime.webhooks_out.retries import Next
from offload.runtime.webhooks_out.signing import signed_headers
from offload.runtime.webhooks_out.subscriptions import Subscriptions
from offload.runtime.webhooks_out.transport import Transport
from offload.runtime.webhooks_out.vault import Vault

# SQS: 15 minutes at the most (SendMessage's DelaySeconds; quotas-messages.html, read 2026-11-23).
LONGEST_DELAY: Final = timedelta(minutes=15)
# After its token should have come, the sweeper looks.
_GRACE: Final = timedelta(seconds=60)
_RENEWED_EVERY: Final = LEASE / 4
# A lease lasts for an attempt and its record, or no round is begun.
_ROUND_TAKES: Final = timedelta(seconds=5)
_SOON: Final = timedelta(seconds=1)


class Tokens(Protocol):
    """Where tokens go: into the lane of the endpoints that are well, or of those that are not, or not known yet."""

    def send(self, subscription: str, *, proven: bool, delay: timedelta = timedelta(0)) -> None:
        """Sends one, to come after `delay`, at most 15 minutes."""


class Signals(Protocol):
    """Where owners are told of their endpoints."""

    def publish(self, record: Record, signals: Sequence[Signal], policy: Policy) -> None:
        """Publishes them; raises an exception of AWS's client when it cannot."""


class Sent(Struct, kw_only=True):
    """What one sender did."""

    attempts: int = 0
    delivered: int = 0
    given_up: int = 0


class Sender:
    """Works on one subscription at a time; many of them share an event loop. `left` is the invocation's time."""

    def __init__(
        self,
        *,
        subscriptions: Subscriptions,
        deliveries: Deliveries,
        vault: Vault,
        transport: Transport,
        tokens: Tokens,
        signals: Signals,
        policy: Policy,
        outward: Mapping[str, EventData],
        now: Callable[[], datetime],
        left: Callable[[], timedelta],
        log: Logger,
    ) -> None:
        self._subscriptions = subscriptions
        self._deliveries = deliveries
        self._vault = vault
        self._transport = transport
        self._tokens = tokens
        self._signals = signals
        self._policy = policy
        self._outward = outward
        self._now = now
        self._left = left
        self._log = log

    @property
    def round_takes(self) -> timedelta:
        """How much time has to be left for a round to begin."""
        return self._policy.timeout + _ROUND_TAKES

    async def work(self, subscription: str) -> Sent:
        """Sends what is due; what AWS refuses is raised, and the subscription then waits for its lease to end."""
        sent = Sent()
        lease = await asyncio.to_thread(self._deliveries.take, subscription)
        if lease is None:
            return sent
        while True:
            async with self._kept(lease):
                await self._send_due(lease, sent)
            # Nothing renews it now: a renewal that comes after the release would take the lease for another's.
            if await self._let_go(lease):
                return sent

    @asynccontextmanager
    async def _kept(self, lease: Lease) -> AsyncIterator[None]:
        """Renews the lease while the body runs."""
        keeper = asyncio.create_task(self._keep(lease, asyncio.current_task()))
        try:
            yield
        finally:
            keeper.cancel()
            with suppress(asyncio.CancelledError):
                await keeper

    async def _keep(self, lease: Lease, worker: asyncio.Task[Any] | None) -> None:
        """Renews the lease; who has lost it stops at once."""
        while True:
            await asyncio.sleep(_RENEWED_EVERY.total_seconds())
            if not await asyncio.to_thread(self._deliveries.renew, lease):
                if worker is not None:
                    worker.cancel("the lease is another's")
                return

    async def _send_due(self, lease: Lease, sent: Sent) -> None:
        if lease.deleted:
            await self._give_up_all(lease, sent)
            return
        holding: Holding | None = None
        if lease.record.state is SubscriptionState.ACTIVE and lease.health.paused:
            # It was resumed by request: what its endpoint is like now, its first delivery will show.
            lease.health, signals = healths.recovered(lease.health, self._now())
            lease.signals += signals
        # Who begins to hang keeps a place among those that are well for one round, and not for the invocation's time.
        while not lease.leaves and self._left() > self.round_takes:
            record, now = lease.record, self._now()
            probing = record.state is SubscriptionState.PAUSED
            entries = await self._chosen(lease, now, probing=probing)
            if not entries:
                return
            bodies = await asyncio.to_thread(self._deliveries.bodies, [entry.body_key for entry in entries])
            hopeless = [
                outcome for entry in entries if (outcome := _hopeless(record, entry, bodies, now, self._outward))
            ]
            if hopeless:
                await self._record(lease, hopeless, sent)
                given_up = {outcome.entry.delivery for outcome in hopeless}
                entries = [entry for entry in entries if entry.delivery not in given_up]
                if not entries:
                    continue
            if holding is None:
                holding = await asyncio.to_thread(self._open, record)
            attempts = await asyncio.gather(
                *(self._attempt(record, holding, entry, bodies[entry.body_key]) for entry in entries)
            )
            await self._conclude(lease, entries, attempts, sent, probing=probing)

    async def _chosen(self, lease: Lease, now: datetime, *, probing: bool) -> list[Entry]:
        """The next round's deliveries; none when the endpoint is to be left alone for now."""
        record, health = lease.record, lease.health
        if probing:
            # By request it stays paused; whoever failed, or was gone, is tried with one now and then.
            if record.reason is not Why.FAILING or (health.parked_until and health.parked_until > now):
                return await self._expired(record, now)
            oldest = await asyncio.to_thread(self._deliveries.oldest, record.id)
            return [oldest] if oldest else []
        if health.parked_until is not None and health.parked_until > now:
            return []
        allowed = health.window
        if record.rate:
            # A second's worth at once, when there was none for a second (the generic cell rate algorithm).
            free_at = max(lease.free_at or now, now - _SOON * (record.rate - 1) / record.rate)
            if free_at > now:
                return []
            allowed = min(allowed, int((now - free_at) * record.rate / _SOON) + 1)
        entries = await asyncio.to_thread(self._deliveries.due, record, allowed)
        if record.rate:
            lease.free_at = free_at + _SOON * len(entries) / record.rate
        return entries

    async def _expired(self, record: Record, now: datetime) -> list[Entry]:
        """Of a paused subscription, what has waited for too long: it is given up, and nothing else is touched."""
        waiting = await asyncio.to_thread(self._deliveries.everything_waiting, record.id, healths.LARGEST_WINDOW)
        return [entry for entry in waiting if entry.expires_at <= now]

    def _open(self, record: Record) -> Holding:
        return msgspec.json.decode(self._vault.open(record.id, record.sealed), type=Holding)

    async def _attempt(self, record: Record, holding: Holding, entry: Entry, body: bytes) -> Attempt:
        signed = signed_headers(
            entry.delivery, body, now=self._now(), secrets=holding.active(self._now()), seeds=holding.seeds
        )
        attempt = await self._transport.attempt(record.url, entry, body, {**holding.headers, **signed})
        self._log.info(
            "attempt",
            delivery=entry.delivery,
            subscription=record.id,
            tenant=record.tenant,
            event_id=entry.event,
            event_type=entry.type,
            attempt=attempt.number,
            status=attempt.status,
            error=attempt.error,
            duration_ms=attempt.duration_ms,
        )
        return attempt

    async def _conclude(
        self, lease: Lease, entries: Sequence[Entry], attempts: Sequence[Attempt], sent: Sent, *, probing: bool
    ) -> None:
        now = self._now()
        nexts = [
            retries.after(
                replace(attempt, number=attempt.number - entry.base),
                now=now,
                schedule=self._policy.schedule,
                expires_at=entry.expires_at,
            )
            for entry, attempt in zip(entries, attempts, strict=True)
        ]
        sent.attempts += len(attempts)
        outcomes = [
            Outcome(entry=entry, attempt=attempt, next=then)
            for entry, attempt, then in zip(entries, attempts, nexts, strict=True)
        ]
        await self._record(lease, outcomes, sent)
        seen = Round(
            outcomes=tuple(then.endpoint_is_well for then in nexts),
            slowest=timedelta(milliseconds=max(attempt.duration_ms for attempt in attempts)),
            waits_until=max((then.endpoint_waits_until for then in nexts if then.endpoint_waits_until), default=None),
        )
        if any(then.pause is Why.GONE for then in nexts):
            await self._pause(lease, Why.GONE, now)
            return
        if probing:
            await self._probed(lease, seen, now)
            return
        lease.leaves = healths.leaves_the_well(lease.health, seen)
        lease.health, signals = healths.after(lease.health, seen, now=now, pause_after=self._policy.pause_after)
        paused = [signal for signal in signals if signal.kind == "paused"]
        lease.signals += tuple(signal for signal in signals if signal.kind != "paused")
        if paused:
            await self._pause(lease, Why.FAILING, now)

    async def _probed(self, lease: Lease, seen: Round, now: datetime) -> None:
        if all(seen.outcomes):
            lease.record = await asyncio.to_thread(
                self._subscriptions.set_state, lease.record.id, SubscriptionState.ACTIVE, None
            )
            lease.health, signals = healths.recovered(lease.health, now)
            lease.signals += signals
            return
        lease.health = replace(lease.health, parked_until=now + self._policy.probe_every, proven=False)

    async def _pause(self, lease: Lease, why: Why, now: datetime) -> None:
        lease.record = await asyncio.to_thread(
            self._subscriptions.set_state, lease.record.id, SubscriptionState.PAUSED, why
        )
        since = lease.health.failing_since or now
        lease.signals += (Signal(kind="paused", failing_since=since, at=now),)
        lease.health = replace(
            lease.health,
            failing_since=since,
            parked_until=now + self._policy.probe_every,
            proven=False,
            window=1,
            paused=True,
        )
        self._log.warning("subscription paused", subscription=lease.record.id, reason=why, since=since)

    async def _give_up_all(self, lease: Lease, sent: Sent) -> None:
        """Of a deleted subscription: everything that waits, each with its reason."""
        while self._left() > _ROUND_TAKES:
            waiting = await asyncio.to_thread(
                self._deliveries.everything_waiting, lease.record.id, healths.LARGEST_WINDOW
            )
            if not waiting:
                return
            gone = Next(given_up=Why.SUBSCRIPTION_DELETED)
            await self._record(lease, [Outcome(entry=entry, attempt=None, next=gone) for entry in waiting], sent)

    async def _record(self, lease: Lease, outcomes: Sequence[Outcome], sent: Sent) -> None:
        written = await asyncio.to_thread(self._deliveries.record, lease.record, outcomes)
        sent.delivered += sum(outcome.next.delivered for outcome in written)
        for outcome in written:
            if outcome.next.given_up is None:
                continue
            sent.given_up += 1
            self._log.warning(
                "given up",
                delivery=outcome.entry.delivery,
                subscription=lease.record.id,
                event_id=outcome.entry.event,
                reason=outcome.next.given_up,
            )

    async def _let_go(self, lease: Lease) -> bool:
        """Ends the lease; False when there is something to look at first."""
        now = self._now()
        if lease.signals:
            await self._tell(lease)
        wake_at = None
        if not lease.deleted:
            wake_at = await self._wake_at(lease, now)
        elif await asyncio.to_thread(self._deliveries.everything_waiting, lease.record.id, 1):
            wake_at = now
        if lease.signals:
            wake_at = min(filter(None, (wake_at, now + _GRACE)))
        at = self._by_token(lease, wake_at, now) if wake_at else None
        if await asyncio.to_thread(self._deliveries.release, lease, wake_at=at):
            return True
        if await asyncio.to_thread(self._deliveries.look_again, lease):
            return self._left() <= self.round_takes and await self._hand_over(lease)
        return True

    async def _hand_over(self, lease: Lease) -> bool:
        """At the end of its time, a sender that was told to look again leaves that to the next."""
        self._tokens.send(lease.record.id, proven=lease.health.proven)
        return await asyncio.to_thread(self._deliveries.release, lease, wake_at=self._now() + _GRACE)

    async def _wake_at(self, lease: Lease, now: datetime) -> datetime | None:
        record, parked = lease.record, lease.health.parked_until
        next_due = await asyncio.to_thread(self._deliveries.next_due, record)
        if next_due is None:
            return None
        if record.state is SubscriptionState.PAUSED:
            return max(parked or now, now + _SOON) if record.reason is Why.FAILING else now + timedelta(days=1)
        wake_at = max(next_due, now)
        if parked is not None:
            wake_at = max(wake_at, parked)
        if record.rate and lease.free_at is not None:
            wake_at = max(wake_at, lease.free_at)
        return wake_at

    def _by_token(self, lease: Lease, wake_at: datetime, now: datetime) -> datetime:
        """Sends a token for what comes within SQS's longest delay; returns when the sweeper looks."""
        delay = wake_at - now
        if delay > LONGEST_DELAY:
            return wake_at
        # One that is on its way comes early enough.
        if lease.token_at is None or not now < lease.token_at <= wake_at + _SOON:
            seconds = timedelta(seconds=math.ceil(max(delay, timedelta(0)).total_seconds()))
            self._tokens.send(lease.record.id, proven=lease.health.proven, delay=seconds)
            lease.token_at = now + seconds
        return wake_at + _GRACE

    async def _tell(self, lease: Lease) -> None:
        try:
            await asyncio.to_thread(self._signals.publish, lease.record, lease.signals, self._policy)
        except Exception as error:  # noqa: BLE001 -- whatever the bus said, the signals stay with the endpoint
            self._log.warning("signals not published", subscription=lease.record.id, error=str(error))
            return
        for signal in lease.signals:
            self._count(lease.record, signal)
        lease.signals = ()

    def _count(self, record: Record, signal: Signal) -> None:
        """The line of which a metric is made; a pause has its own when it begins, whatever the bus says."""
        about = {"subscription": record.id, "tenant": record.tenant, "since": signal.failing_since}
        if signal.kind == "failing":
            self._log.warning("subscription failing", **about, percent=signal.percent)
        elif signal.kind == "recovered":
            self._log.info("subscription recovered", **about)


def _hopeless(
    record: Record, entry: Entry, bodies: Mapping[str, bytes], now: datetime, outward: Mapping[str, EventData]
) -> Outcome | None:
    if entry.expires_at <= now:
        return Outcome(entry=entry, attempt=None, next=Next(given_up=Why.EXPIRED))
    if entry.body_key not in bodies:
        return Outcome(entry=entry, attempt=None, next=Next(given_up=Why.PAYLOAD_ERASED))
    example = outward.get(entry.type)
    # What was planned before its type declared whose it is, and what is sent again of that.
    if example is not None and not is_told_by(record.tenant, type(example), bodies[entry.body_key]):
        return Outcome(entry=entry, attempt=None, next=Next(given_up=Why.ANOTHER_TENANTS))
    return None
