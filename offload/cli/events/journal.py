"""What the journal has of events: which of them were published before with other data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from offload.contracts.events.claim import claim_key
from offload.contracts.events.entry import WHOLE_BYTES, Entry
from offload.contracts.events.event import Event, data_digest, read_envelope
from offload.contracts.functions import own
from offload.runtime.events.consumer import mark_key
from offload.runtime.tables import batch_get

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from offload.cli.deployment.resources import Consumer, Deployment

JOURNAL: Final = own("event_journal")
"""The folder of the consumer that takes every event."""


def journal_of(deployment: Deployment) -> Consumer | None:
    """The environment's journal; None where it has none."""
    return next((consumer for consumer in deployment.consumers() if consumer.source == JOURNAL), None)


def published_with_other_data(table: str, events: Iterable[Event[Any]], client: DynamoDBClient) -> list[Event[Any]]:
    """Those of the events whose source and id the journal has with other data: consumers keep what came first.

    `table` is the journal's. An event that was published moments ago may not be in it yet.
    """
    of_keys = {str(mark_key(event.key)["pk"]["S"]): event for event in events}
    keys = [mark_key(event.key) for event in of_keys.values()]
    kept = {
        item["pk"]["S"]: item["digest"]["S"]
        for item in batch_get(table, keys, attributes="pk, digest", client=client)
        if "digest" in item
    }
    return [event for key, event in of_keys.items() if kept.get(key, _digest(event)) != _digest(event)]


def _digest(event: Event[Any]) -> str:
    entry = Entry.of(event)
    envelope = read_envelope(entry.detail)
    if entry.size() > WHOLE_BYTES:
        envelope = replace(envelope, dataref=claim_key(event.type, entry.data()))
    return data_digest(envelope)
