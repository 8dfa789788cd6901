"""Publishes orders: as they are, or with what goes wrong in real life mixed in (repeats, disorder, broken events)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from offload.cli.deployment.failure import Failure
from offload.cli.events.journal import journal_of, published_with_other_data
from offload.cli.events.publishing import publisher_of
from offload.client.publisher import NotPublished
from offload.contracts.events.claim import CLAIM_LIMIT, claim_key, claim_reference
from offload.contracts.events.entry import REQUEST_ENTRIES, Entry, answered
from offload.contracts.events.event import BrokenContract, Event
from offload.runtime.reasons import Reason
from shop.contracts.orders import Invoice, OrderCancelled, OrderPlaced

if TYPE_CHECKING:
    from mypy_boto3_events import EventBridgeClient

    from offload.cli.deployment.resources import Deployment

# So many at a time go through the publisher: enough for full batches, few enough for a progress bar that moves.
_PORTION: Final = 100
_NUMBER_SHOWN: Final = 40
# With a rate, a portion is what is due in this time.
_BEAT_SECONDS: Final = 0.1


@dataclass(frozen=True)
class Mix:
    """What is done to the events of a file: shares of 0 to 1 of them are `duplicate`d and added as `poison`."""

    duplicate: float = 0.0
    shuffle: bool = False
    poison: float = 0.0
    seed: int = 0


class Broken(NamedTuple):
    """An event that no consumer can take, as it goes to the bus past every check. Its detail is still a JSON object.

    `id` is empty where the detail has none; the bus's own id is then all there is. `reason` is what consumers say.
    """

    kind: str
    id: str
    reason: Reason
    event_type: str
    detail: Mapping[str, Any]


class Poison(NamedTuple):
    """A broken event that was published: its dead letters have this `event_id` and this `reason`."""

    id: str
    kind: str
    reason: str


Publication: TypeAlias = Event[Invoice] | Broken


@dataclass(frozen=True)
class Outcome:
    """What was published. `events` are the distinct good ones, `placed` and `cancelled` orders together."""

    placed: int
    cancelled: int
    duplicates: int
    poison: tuple[Poison, ...]
    seconds: float
    conflicts: tuple[str, ...] = ()
    """The ids of events that were published before with other data: consumers keep what came first."""

    @property
    def events(self) -> int:
        """The distinct good events."""
        return self.placed + self.cancelled


def mixed(invoices: Sequence[Invoice], mix: Mix, claims_bucket: str) -> list[Publication]:
    """The events of the invoices with the mix's additions, in the order in which they are to be published.

    The same seed gives the same publications. `claims_bucket` is where a claim check of a poison event points to.
    """
    draw = Random(mix.seed)  # noqa: S311 -- a test's disorder, no secret
    events: list[Publication] = [invoice.event() for invoice in invoices]
    end = len(events)
    placed: list[tuple[float, Publication]] = [(float(place), event) for place, event in enumerate(events)]
    for place in sorted(draw.sample(range(end), round(mix.duplicate * end))):
        placed.append((draw.uniform(place, end), events[place]))
    for number in range(round(mix.poison * end)):
        placed.append((draw.uniform(0, end), _broken(number, mix.seed, invoices[number % end], claims_bucket)))
    if mix.shuffle:
        draw.shuffle(placed)
    else:
        placed.sort(key=lambda each: each[0])
    return [publication for _, publication in placed]


def publish(
    deployment: Deployment,
    invoices: Sequence[Invoice],
    mix: Mix | None = None,
    *,
    rate: float | None = None,
    progress: Callable[[int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Publishes invoices on the deployment's bus, at most `rate` events a second; `progress` is told of each portion.

    Every event is checked by its contract before the first is published: raises Failure, with nothing published, for
    one that no consumer could read. Raises Failure too when the bus did not take some; what was published before stays
    published, and the same file may simply be published again.
    """
    bucket = deployment.bucket("Claims")
    _check(invoices)
    publications = mixed(invoices, mix or Mix(), bucket)
    publisher = publisher_of(deployment)
    poison: list[Poison] = []
    conflicts: dict[str, None] = {}
    journal = journal_of(deployment)
    done = 0
    began = time.monotonic()
    for portion in _portions(publications, _PORTION if rate is None else max(1, round(rate * _BEAT_SECONDS))):
        if rate is not None:
            sleep(max(0.0, began + done / rate - time.monotonic()))
        good = [each for each in portion if not isinstance(each, Broken)]
        if journal and journal.marks_table:
            for event in published_with_other_data(journal.marks_table, good, deployment.aws.dynamodb):
                conflicts[event.id] = None
        try:
            publisher.publish_many(good)
        except NotPublished as error:
            published = f"{done + len(error.published)} of {len(publications)}"
            raise Failure(f"{error}; {published} were published: publish the file again") from error
        broken = [each for each in portion if isinstance(each, Broken)]
        poison += _put(deployment.aws.events, deployment.bus, broken)
        done += len(portion)
        if progress:
            progress(len(portion))
    cancelled = sum(isinstance(invoice, OrderCancelled) for invoice in invoices)
    return Outcome(
        placed=len(invoices) - cancelled,
        cancelled=cancelled,
        duplicates=len(publications) - len(invoices) - len(poison),
        poison=tuple(poison),
        seconds=time.monotonic() - began,
        conflicts=tuple(conflicts),
    )


def _check(invoices: Iterable[Invoice]) -> None:
    for invoice in invoices:
        try:
            entry = Entry.of(invoice.event())
        except BrokenContract as error:
            raise Failure(f"invoice {invoice.invoice[:_NUMBER_SHOWN]}: {error}. Nothing was published") from error
        if len(entry.detail) > CLAIM_LIMIT:
            raise Failure(
                f"invoice {invoice.invoice}: its event has {len(entry.detail):,} bytes, the limit is {CLAIM_LIMIT:,}:"
                " make several of it. Nothing was published"
            )


def _portions(publications: Sequence[Publication], size: int) -> Iterator[Sequence[Publication]]:
    for start in range(0, len(publications), size):
        yield publications[start : start + size]


def _put(client: EventBridgeClient, bus: str, broken: Sequence[Broken]) -> Iterable[Poison]:
    """Sends broken events to the bus as they are: the publisher would refuse them."""
    for start in range(0, len(broken), REQUEST_ENTRIES):
        batch = broken[start : start + REQUEST_ENTRIES]
        entries = [
            Entry(each.id, OrderPlaced.SOURCE, each.event_type, json.dumps(each.detail).encode()) for each in batch
        ]
        request: Any = [entry.request(bus) for entry in entries]
        answer = client.put_events(Entries=request)
        if refused := [why for why in answered(answer, len(batch)) if why]:
            codes = ", ".join(sorted({why.code for why in refused}))
            raise Failure(f"the bus refused {len(refused)} poison events: {codes}")
        for each, entry in zip(batch, answer["Entries"], strict=True):
            yield Poison(each.id or f"bus:{entry['EventId']}", each.kind, each.reason)


def _broken(number: int, seed: int, invoice: Invoice, claims_bucket: str) -> Broken:
    """The `number`th broken event, made from a real one; the kinds take turns."""
    kinds = tuple(_KINDS)
    kind = kinds[number % len(kinds)]
    contract = OrderPlaced if number // len(kinds) % 2 == 0 else OrderCancelled
    id_ = f"{contract.TYPE}:poison-{seed}-{number}"
    envelope: dict[str, Any] = json.loads(invoice.event().to_json())
    envelope |= {"id": id_, "type": contract.TYPE, "dataschema": contract.schema_uri(), "subject": f"poison-{number}"}
    envelope["data"]["invoice"] = f"poison-{seed}-{number}"
    _KINDS[kind](envelope, claims_bucket)
    reason = Reason.CLAIM_MISSING if "dataref" in envelope else Reason.BROKEN_CONTRACT
    return Broken(kind, str(envelope.get("id", "")), reason, contract.TYPE, envelope)


def _no_envelope(envelope: dict[str, Any], _: str) -> None:
    invoice = envelope["data"]["invoice"]
    envelope.clear()
    envelope |= {"order": invoice, "status": "placed"}


def _no_id(envelope: dict[str, Any], _: str) -> None:
    del envelope["id"]


def _quantity_as_text(envelope: dict[str, Any], _: str) -> None:
    envelope["data"]["lines"][0]["quantity"] = "six"


def _price_not_a_number(envelope: dict[str, Any], _: str) -> None:
    envelope["data"]["lines"][0]["unit_price"] = "NaN"


def _no_lines(envelope: dict[str, Any], _: str) -> None:
    envelope["data"]["lines"] = []


def _unknown_dataschema(envelope: dict[str, Any], _: str) -> None:
    envelope["dataschema"] = f"urn:offload:{envelope['type']}:999"


def _missing_claim(envelope: dict[str, Any], claims_bucket: str) -> None:
    # The name of content that nobody stored: its hash is of this very event's id.
    del envelope["data"]
    envelope["dataref"] = claim_reference(claims_bucket, claim_key(envelope["type"], envelope["id"].encode()))


_KINDS: Final[Mapping[str, Callable[[dict[str, Any], str], None]]] = {
    "no-envelope": _no_envelope,
    "no-id": _no_id,
    "quantity-as-text": _quantity_as_text,
    "price-not-a-number": _price_not_a_number,
    "no-lines": _no_lines,
    "unknown-dataschema": _unknown_dataschema,
    "missing-claim": _missing_claim,
}
POISON_KINDS: Final = tuple(_KINDS)
"""What can be wrong with a poison event."""
