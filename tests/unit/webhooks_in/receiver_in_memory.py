"""The webhook receiver's Lambda handler on services in memory, which take and refuse what DynamoDB and EventBridge do.

They stand in the place of the requests over HTTP: what the receiver sends is encoded and read as JSON. Of DynamoDB they
know the expressions that the receiver writes, and AWS's limits of keys and items; of EventBridge those of an entry
(Constraints.html and API_PutEventsRequestEntry.html, read 2026-11-30).
"""

from __future__ import annotations

import base64
import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final

import pytest

from offload.contracts.events.entry import REQUEST_BYTES
from offload.contracts.webhooks_in.scheme import Provider
from offload.contracts.webhooks_in.stored_secret import SecretDocument, StoredSecret, StoredSecrets
from offload.runtime import aws
from offload.runtime.lean_aws import AwsRefused, Service
from tests.unit.webhooks_in.webhook_bench import Context

_ITEM_BYTES: Final = 400 * 1024
_KEYS: Final = {"pk": 2048, "sk": 1024, "shown": 2048, "listed": 1024, "owed": 2048}
_DETAIL_TYPE: Final = 128
_NO_CONDITION: Final = "ConditionalCheckFailedException"


@dataclass
class InMemory:
    """One receiver and what it wrote: items by their keys, entries in their order, objects by bucket and key."""

    secrets: str
    items: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    entries: list[dict[str, str]] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    handler: Any = None

    def answer(self, event: dict[str, Any]) -> dict[str, Any]:
        """What the handler answers to a request of the gateway."""
        found: dict[str, Any] = self.handler(event, Context())
        return found

    def kept(self) -> list[dict[str, Any]]:
        """The deliveries in the table."""
        return [item for (pk, _), item in self.items.items() if pk.startswith("delivery#") and "receipt" in item]

    def events(self) -> list[dict[str, Any]]:
        """The events on the bus, with the data that some of them left in the bucket."""
        found = [json.loads(entry["Detail"]) for entry in self.entries]
        for event in found:
            if "dataref" in event:
                event["data"] = json.loads(self.objects[event["dataref"].removeprefix("s3://")])
        return found

    def clear(self) -> None:
        """Forgets what was written."""
        self.items.clear()
        self.entries.clear()
        self.objects.clear()

    def once(self, service: Service, action: str, body: bytes, _within: float) -> dict[str, Any]:
        """In the place of Service's request."""
        request = json.loads(body)
        match service.name, action:
            case "secretsmanager", "GetSecretValue":
                return {"SecretString": self.secrets}
            case "events", "PutEvents":
                return {"Entries": [self._put(entry) for entry in request["Entries"]], "FailedEntryCount": 0}
            case "dynamodb", "PutItem":
                return self._put_item(request)
            case "dynamodb", "UpdateItem":
                return self._update_item(request)
        raise AssertionError(f"{service.name}:{action} is not known here")

    def put_object(self, **request: Any) -> None:
        """In the place of S3's."""
        assert request["ContentType"] == "application/json"
        assert len(request["Key"].encode()) <= 1024
        self.objects[f"{request['Bucket']}/{request['Key']}"] = request["Body"]

    def _put(self, entry: dict[str, str]) -> dict[str, str]:
        json.loads(entry["Detail"])
        assert sum(len(entry[name].encode()) for name in ("Source", "DetailType", "Detail")) <= REQUEST_BYTES
        assert 0 < len(entry["DetailType"]) <= _DETAIL_TYPE
        self.entries.append(entry)
        return {"EventId": str(len(self.entries))}

    def _put_item(self, request: dict[str, Any]) -> dict[str, Any]:
        item = request["Item"]
        key = (item["pk"]["S"], item["sk"]["S"])
        if "ConditionExpression" in request:
            assert request["ConditionExpression"] == "attribute_not_exists(pk)"
            if key in self.items:
                raise _refused("PutItem", self.items[key])
        self._write(key, item)
        return {}

    def _update_item(self, request: dict[str, Any]) -> dict[str, Any]:
        key = (request["Key"]["pk"]["S"], request["Key"]["sk"]["S"])
        values = request["ExpressionAttributeValues"]
        before = self.items.get(key, {})
        item = {**request["Key"], **before}
        if ":variants" in values:
            variants = {*before.get("variants", {}).get("SS", ()), values[":variant"]["S"]}
            if len(variants) > int(values[":most"]["N"]):
                raise _refused("UpdateItem", before)
            item["variants"] = {"SS": sorted(variants)}
        elif "#count" in request.get("ExpressionAttributeNames", {}):
            item["count"] = {"N": str(int(before.get("count", {"N": "0"})["N"]) + 1)}
        else:
            if not before or (":id" in values and before["delivery_id"] == values[":id"]):
                raise _refused("UpdateItem", before)
            if "REMOVE owed" in request["UpdateExpression"]:
                item = {name: value for name, value in item.items() if name not in {"owed", "owed_at", "entry"}}
            else:
                item["duplicates"] = {"N": str(int(before.get("duplicates", {"N": "0"})["N"]) + 1)}
        self._write(key, item)
        return {"Attributes": before if request.get("ReturnValues") == "ALL_OLD" else item}

    def _write(self, key: tuple[str, str], item: dict[str, Any]) -> None:
        for name, most in _KEYS.items():
            assert name not in item or 0 < len(item[name]["S"].encode()) <= most, name
        assert sum(len(name.encode()) + _size(value) for name, value in item.items()) <= _ITEM_BYTES
        self.items[key] = item


def _size(value: dict[str, Any]) -> int:
    [(kind, content)] = value.items()
    if kind == "B":
        return len(base64.b64decode(content))
    return len(json.dumps(content, ensure_ascii=False).encode())


def _refused(action: str, item: dict[str, Any]) -> AwsRefused:
    return AwsRefused("dynamodb", action, 400, {"__type": _NO_CONDITION, "Item": item})


@contextmanager
def receiver_in_memory(providers: dict[str, Provider], secrets: dict[str, str]) -> Iterator[InMemory]:
    """The receiver of these providers, each with its secret; it refuses nobody for coming too often."""
    document = SecretDocument()
    for name, value in secrets.items():
        document = document.with_secrets(name, StoredSecrets((StoredSecret(key_id="first", value=value),)))
    memory = InMemory(document.to_json())
    name = "offload.functions.webhook_receiver.handler"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFFLOAD_WEBHOOKS_SECRET_ARN", "arn")
        patch.setenv("OFFLOAD_WEBHOOKS_PROVIDERS", "github")
        patch.setenv("OFFLOAD_DELIVERIES_TABLE", "deliveries")
        patch.setenv("OFFLOAD_BUS", "bus")
        patch.setenv("OFFLOAD_CLAIMS_BUCKET", "claims")
        patch.setenv("OFFLOAD_REFUSED_PER_MINUTE", str(10**9))
        patch.setattr(Service, "_once", lambda self, *arguments: memory.once(self, *arguments))
        patch.setattr(aws, "s3", lambda: SimpleNamespace(put_object=memory.put_object))
        patch.delitem(sys.modules, name, raising=False)
        module = importlib.import_module(name)
        module.receiver._providers = providers
        # How often newer secrets are looked for depends on the clock.
        patch.setattr("offload.runtime.webhooks_in.secret_cache._LOOKS", 10**9)
        memory.handler = module.handler
        yield memory
        sys.modules.pop(name, None)
