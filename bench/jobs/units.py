"""What DynamoDB would bill for a client's writes to the table of jobs, its indexes included.

The rules of tests/meter.py, and for each index (GSI.html#GSI.ThroughputConsiderations.Writes, read 2026-11-24):
an entry that comes or goes costs its write, one that changes too, one whose key changes a delete and a write. What a
transaction costs twice is the table's own write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tests.meter import Item, item_size, write_units

# The table's indexes (offload/cdk/constructs/job_service.py): their keys, and what else is in them; None is everything.
_INDEXES: Final[Mapping[str, tuple[tuple[str, str], frozenset[str] | None]]] = {
    "due": (("due_shard", "due_at"), frozenset({"type", "state"})),
    "types": (("type_shard", "listed"), None),
}
_KEY: Final = ("pk", "sk")
_SINGLE: Final = frozenset({"PutItem", "UpdateItem", "DeleteItem"})


class Units:
    """Counts what `client` writes from now on; `look` is another client, which reads the items before and after."""

    def __init__(self, client: Any, look: Any) -> None:
        self.written = 0
        self._look = look
        self._before: list[tuple[str, Item, Item]] = []
        client.meta.events.register("before-parameter-build.dynamodb", self._begin)
        client.meta.events.register("after-call.dynamodb", self._end)

    def _begin(self, params: Mapping[str, Any], model: Any, **_: Any) -> None:
        bodies: list[Any] = []
        if model.name in _SINGLE:
            bodies = [params]
        elif model.name == "TransactWriteItems":
            bodies = [body for action in params["TransactItems"] for body in action.values()]
        self._before = []
        for body in bodies:
            whole = body.get("Key") or body["Item"]
            key = {name: whole[name] for name in _KEY}
            self._before.append((body["TableName"], key, self._now(body["TableName"], key)))

    def _end(self, parsed: Mapping[str, Any], model: Any, **_: Any) -> None:
        for table, key, before in self._before:
            after = self._now(table, key)
            own = write_units(max(item_size(before), item_size(after)))
            self.written += own * (2 if model.name == "TransactWriteItems" else 1)
            self.written += sum(_of_index(name, before, after) for name in _INDEXES)

    def _now(self, table: str, key: Item) -> Item:
        found: Item = self._look.get_item(TableName=table, Key=key, ConsistentRead=True).get("Item", {})
        return found


def _of_index(index: str, before: Item, after: Item) -> int:
    was, now = _entry(index, before), _entry(index, after)
    if was == now:
        return 0
    if was and now and all(was[name] == now[name] for name in _INDEXES[index][0]):
        return write_units(max(item_size(was), item_size(now)))
    return sum(write_units(item_size(each)) for each in (was, now) if each)


def _entry(index: str, item: Item) -> Item:
    """The item as it stands in an index; empty where it has not the index's keys."""
    keys, others = _INDEXES[index]
    if not all(name in item for name in keys):
        return {}
    if others is None:
        return item
    return {name: value for name, value in item.items() if name in (*_KEY, *keys) or name in others}
