"""How the indexes of deliveries are spread, and what rate they bear: the sums of docs/webhooks.md, "How many a second".

Both are ordered by time, so all writes of a partition key meet at its end, where DynamoDB cannot split it; and an index
that is throttled throttles its table.
"""

from __future__ import annotations

import zlib
from typing import Final

SHARDS: Final = 8
"""Partition keys of what is owed to the bus, and of what is listed of each provider.

With more of them what is there is still found; with fewer, some of it is not."""

PARTITION_UNITS: Final = 1_000
"""Write units that a partition takes in a second (docs.aws.amazon.com/amazondynamodb/latest/developerguide/
bp-partition-key-design.html, read 2026-11-29)."""

UNITS_PER_WEBHOOK: Final = 2
"""Write units of a webhook in either index, 1 KB each: put with its item, and changed when the bus has it."""

MOST_A_SECOND: Final = SHARDS * PARTITION_UNITS // (2 * UNITS_PER_WEBHOOK)
"""Webhooks a second of one provider, or of all, that leave half of each partition free: for copies, and for chance."""


def shard_of(key: str) -> int:
    """The shard of a delivery by its key, or of a refusal by its own id."""
    return zlib.crc32(key.encode()) % SHARDS


def owed_in(shard: int) -> str:
    """The partition of the index `owed` of a shard."""
    return f"owed#{shard}"


def listed_in(provider: str, shard: int) -> str:
    """The partition of the index `recent` of a provider's shard."""
    return f"{provider}#{shard}"
