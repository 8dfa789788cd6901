"""The claim check: how the data of an event that is too large for the bus is named in a store.

The event's envelope travels with `dataref` (CloudEvents extension, dataref.md) in place of its `data`. The name follows
from the content, so storing the same data again is the same object, and a reader can tell whether it got what was
stored.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final
from urllib.parse import quote

# Ours, not S3's: a function reads the whole of it into memory, several times over once it is decoded.
CLAIM_LIMIT: Final = 16 * 1024 * 1024
CLAIM_PREFIX: Final = "claims/"
_SCHEME: Final = "s3://"
_SUFFIX: Final = ".json"


def claim_key(event_type: str, data: bytes) -> str:
    """The object key under which the data of an event of this type is stored."""
    return f"{CLAIM_PREFIX}{quote(event_type, safe='')}/{sha256(data).hexdigest()}{_SUFFIX}"


def claim_reference(bucket: str, key: str) -> str:
    """The `dataref` that stands for the object."""
    return f"{_SCHEME}{bucket}/{key}"


def split_reference(dataref: str) -> tuple[str, str]:
    """Bucket and key of a `dataref`; both are empty when it does not name an object of S3."""
    if not dataref.startswith(_SCHEME):
        return "", ""
    bucket, _, key = dataref.removeprefix(_SCHEME).partition("/")
    return (bucket, key) if bucket and key else ("", "")


def is_claimed(key: str, data: bytes) -> bool:
    """Whether the data is what was stored under the key."""
    return key.rpartition("/")[2] == sha256(data).hexdigest() + _SUFFIX
