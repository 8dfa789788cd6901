"""Counts the AWS calls of one client and what DynamoDB would bill for them.

The units are computed from the requests, by DynamoDB's rules; what the embedded AWS reports as consumed is kept beside
them, for comparison. The rules:

- an item's size is the bytes of its names and values (Developer Guide, CapacityUnitCalculations.html);
- a write costs a unit for each started KB of the larger of the item before and after, a delete those of what is
  deleted, a failed condition those of the larger of what is there and what was to be written
  (read-write-operations.html);
- in a transaction everything costs twice, also when it is cancelled (transaction-apis.html);
- a strongly consistent read costs a unit for each started 4 KB of an item, of a Query for those of what it went
  through; an eventually consistent one half.

All pages under docs.aws.amazon.com/amazondynamodb/latest/developerguide, read 2026-11-23.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

WRITE_UNIT: Final = 1024
READ_UNIT: Final = 4096
_NESTED_OVERHEAD: Final = 3  # a list or a map; each of its members costs one more
_WRITES: Final = frozenset({"PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems"})
_KEY_NAMES: Final = frozenset({"pk", "sk", "id"})

Item = Mapping[str, Any]
Key = tuple[str, str]


def item_size(item: Item) -> int:
    """Bytes of an item in DynamoDB's own JSON form (`{"pk": {"S": "…"}}`)."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "B":
        return len(content)
    if kind == "N":
        return _number_size(str(content))
    if kind == "M":
        return _NESTED_OVERHEAD + sum(1 + len(name.encode()) + _value_size(each) for name, each in content.items())
    if kind == "L":
        return _NESTED_OVERHEAD + sum(1 + _value_size(each) for each in content)
    if kind in ("BOOL", "NULL"):
        return 1
    raise ValueError(f"no rule for the size of a DynamoDB {kind}")


def _number_size(text: str) -> int:
    """A byte for every two significant digits, one more, and one for a minus sign; 21 at most."""
    sign, digits, _ = Decimal(text).normalize().as_tuple()
    return min(21, (len(digits) + 1) // 2 + 1 + sign)


def write_units(size: int) -> int:
    """Units of a write of `size` bytes outside of a transaction."""
    return max(1, -(-size // WRITE_UNIT))


def read_units(size: int, *, consistent: bool) -> float:
    """Units of a read of `size` bytes."""
    units = max(1, -(-size // READ_UNIT))
    return units if consistent else units / 2


class Meter:
    """What the calls of a client come to, from `attach` on.

    `calls` by operation; `written` units by table; `read` units; `cancelled` transactions and failed conditions, whose
    units are in `written` too; `reported` is what the embedded AWS said the successful writes consumed.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.written: Counter[str] = Counter()
        self.read = 0.0
        self.cancelled = 0
        self.reported = 0.0
        self._sizes: dict[Key, int] = {}
        self._look: Callable[[str, Sequence[Item]], Sequence[Item]] | None = None

    @property
    def units(self) -> int:
        """Write units of all tables."""
        return sum(self.written.values())

    def attach(self, client: Any, look: Callable[[str, Sequence[Item]], Sequence[Item]]) -> None:
        """Counts the calls of a boto3 client; `look` reads a table's items by their keys, by another client."""
        self._look = look
        pending: dict[str, Any] = {}

        def before(params: dict[str, Any], model: Any, **_: Any) -> None:
            pending[model.name] = params
            if model.name in _WRITES:
                params["ReturnConsumedCapacity"] = "TOTAL"

        def after(parsed: dict[str, Any], model: Any, **_: Any) -> None:
            self.calls[model.name] += 1
            count = getattr(self, f"_{model.name}", None)
            if count is not None:
                count(pending.pop(model.name), parsed)
            if model.name in _WRITES and "Error" not in parsed:
                self.reported += _reported(parsed["ConsumedCapacity"])

        service = client.meta.service_model.service_name
        client.meta.events.register(f"before-parameter-build.{service}", before)
        client.meta.events.register(f"after-call.{service}", after)

    def reset(self) -> None:
        """Starts counting anew; what is in the tables stays known."""
        self.calls.clear()
        self.written.clear()
        self.read, self.cancelled, self.reported = 0.0, 0, 0.0

    # -- writes

    def _PutItem(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:  # noqa: N802 -- the operation's name
        self._write("Put", params, failed="Error" in parsed)

    def _UpdateItem(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:  # noqa: N802
        failed = "Error" in parsed
        after = {} if failed else self._sizes_now(params["TableName"], [params["Key"]])
        self._write("Update", params, failed=failed, updated=after)

    def _DeleteItem(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:  # noqa: N802
        self._write("Delete", params, failed="Error" in parsed)

    def _TransactWriteItems(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:  # noqa: N802
        failed = "Error" in parsed
        bodies = [(kind, body) for action in params["TransactItems"] for kind, body in action.items()]
        updates: dict[str, list[Item]] = {}
        for kind, body in bodies:
            if kind == "Update":
                updates.setdefault(body["TableName"], []).append(body["Key"])
        updated: dict[Key, int] = {}
        if not failed:
            for table, keys in updates.items():
                updated |= self._sizes_now(table, keys)
        for kind, body in bodies:
            self._write(kind, body, failed=failed, twice=True, cancelled=False, updated=updated)
        self.cancelled += failed

    def _write(
        self,
        kind: str,
        body: dict[str, Any],
        *,
        failed: bool,
        twice: bool = False,
        cancelled: bool = True,
        updated: Mapping[Key, int] = {},
    ) -> None:
        table = body["TableName"]
        item: Item = body["Item"] if kind == "Put" else body["Key"]
        key = _key(table, item)
        before = self._sizes.get(key, 0)
        if kind == "Put":
            after = item_size(item)
        elif kind == "Delete":
            after = 0
        elif failed:
            after = before
        else:
            after = updated[key]
        self.written[table] += write_units(max(before, after)) * (2 if twice else 1)
        if failed:
            self.cancelled += cancelled
        elif kind == "Delete":
            self._sizes.pop(key, None)
        else:
            self._sizes[key] = after

    def _sizes_now(self, table: str, keys: Sequence[Item]) -> dict[Key, int]:
        assert self._look is not None
        return {_key(table, item): item_size(item) for item in self._look(table, keys)}

    # -- reads

    def _GetItem(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:  # noqa: N802
        self.read += read_units(item_size(parsed.get("Item", {})), consistent=params.get("ConsistentRead", False))

    def _BatchGetItem(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:  # noqa: N802
        for table, wanted in params["RequestItems"].items():
            consistent = wanted.get("ConsistentRead", False)
            found = parsed["Responses"].get(table, [])
            self.read += sum(read_units(item_size(item), consistent=consistent) for item in found)
            self.read += sum(read_units(0, consistent=consistent) for _ in range(len(wanted["Keys"]) - len(found)))

    def _Query(self, params: dict[str, Any], parsed: dict[str, Any]) -> None:  # noqa: N802
        size = sum(item_size(item) for item in parsed["Items"])
        self.read += read_units(size, consistent=params.get("ConsistentRead", False))


def _key(table: str, item: Item) -> Key:
    return table, "|".join(_key_parts(item))


def _key_parts(item: Item) -> Iterator[str]:
    for name in sorted(_KEY_NAMES & item.keys()):
        yield item[name]["S"]


def _reported(consumed: Any) -> float:
    entries = consumed if isinstance(consumed, list) else [consumed]
    return float(sum(entry["CapacityUnits"] for entry in entries))
