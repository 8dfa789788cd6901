"""How a function is told of a third party that it calls: one variable of JSON for each."""

from __future__ import annotations

import re
from typing import Annotated, Final

import msgspec

CREDENTIALS_NOT_SET: Final = "unset"
"""The key that is in a third party's secret until a person puts the credentials there."""

_VARIABLE: Final = "OFFLOAD_CALLS_"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
# One in a quarter of an hour, as long as a function lives.
_SLOWEST: Final = 0.001
# A request is a write of one item, or two: half of the 1,000 write units a second that an item has
# (docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html, read 2026-11-30).
_FASTEST: Final = 500


class CallSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is agreed with one third party.

    `table` keeps what all invocations share. `per_second` is the rate that is allowed, of all of them together; None is
    no limit. `attempts` is how often a request is sent at most. `connect_seconds`, `read_seconds` (without a byte) and
    `total_seconds` (a call with all its attempts and waits) are time-outs. `longest_body` is in bytes. After
    `breaker_failures` within half a minute nothing is sent for `breaker_seconds`. `secret` is the ARN of the
    credentials. `secret_path` says that the path of its URLs is a credential, and is to be in no log.
    """

    table: str
    per_second: Annotated[float, msgspec.Meta(ge=_SLOWEST, le=_FASTEST)] | None = None
    attempts: Annotated[int, msgspec.Meta(ge=1, le=10)] = 3
    connect_seconds: Annotated[float, msgspec.Meta(gt=0, le=60)] = 3.0
    read_seconds: Annotated[float, msgspec.Meta(gt=0, le=900)] = 10.0
    total_seconds: Annotated[float, msgspec.Meta(gt=0, le=900)] = 20.0
    longest_body: Annotated[int, msgspec.Meta(ge=1, le=100 * 1024 * 1024)] = 1024 * 1024
    breaker_failures: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 5
    breaker_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)] = 30
    secret: str | None = None
    secret_path: bool = False


def is_name(third_party: str) -> bool:
    """Whether `third_party` can be a third party's name: lower-case words with hyphens (`parcel-service`)."""
    return _NAME.fullmatch(third_party) is not None


def variable_of(third_party: str) -> str:
    """The variable with the CallSettings of a third party (`parcel-service`) as JSON."""
    return _VARIABLE + third_party.upper().replace("-", "_")


def credentials_are_set(secret: str) -> bool:
    """Whether a third party's secret has what a person put there, and not what CloudFormation generated."""
    try:
        content = msgspec.json.decode(secret)
    except msgspec.DecodeError:
        return True
    return not (isinstance(content, dict) and set(content) == {CREDENTIALS_NOT_SET})


def third_party_of(variable: str) -> str | None:
    """The third party whose CallSettings are in a variable; None for a variable of something else."""
    if not variable.startswith(_VARIABLE):
        return None
    return variable.removeprefix(_VARIABLE).lower().replace("_", "-")
