"""How webhooks are sent in one environment: what its file says under `[sending]`, and what functions get of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Final

from msgspec import Meta, Struct

from offload.contracts.webhooks_out.subscription import RETRY_SCHEDULE

Seconds = Annotated[int, Meta(ge=1, le=7 * 24 * 3600)]

POLICY_VARIABLE: Final = "OFFLOAD_SENDING"
"""The variable with a Policy as JSON."""


class Policy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The sender's promise.

    - `retry_seconds`: the wait after each attempt before the next; one attempt more than there are waits.
    - `timeout_seconds`: for one attempt in all, from the look-up of the name to the answer; `connect_seconds` of it.
    - `expire_days`: a delivery that has not been taken after so long is given up.
    - `pause_after_hours`: an endpoint that fails for so long pauses its subscription; `probe_minutes` between the
      attempts that then see whether it has healed.
    - `payload_days`, `record_days`: how long what was sent is kept, and the record that it was.
    """

    retry_seconds: tuple[Seconds, ...] = tuple(int(each.total_seconds()) for each in RETRY_SCHEDULE)
    timeout_seconds: Annotated[int, Meta(ge=1, le=20)] = 15
    connect_seconds: Annotated[int, Meta(ge=1, le=15)] = 5
    expire_days: Annotated[int, Meta(ge=1, le=60)] = 14
    pause_after_hours: Annotated[int, Meta(ge=1, le=720)] = 120
    probe_minutes: Annotated[int, Meta(ge=1, le=1440)] = 60
    payload_days: Annotated[int, Meta(ge=1, le=400)] = 30
    record_days: Annotated[int, Meta(ge=1, le=400)] = 90

    def __post_init__(self) -> None:
        if self.payload_days < self.expire_days:
            raise ValueError("payload_days: less than expire_days: what is still to be sent would be gone")
        if self.record_days < self.payload_days:
            raise ValueError("record_days: less than payload_days: a payload would outlast its record")

    @property
    def schedule(self) -> tuple[timedelta, ...]:
        """The waits between attempts."""
        return tuple(timedelta(seconds=each) for each in self.retry_seconds)

    @property
    def timeout(self) -> timedelta:
        """For one attempt in all."""
        return timedelta(seconds=self.timeout_seconds)

    @property
    def expires(self) -> timedelta:
        """From when a delivery is owed until it is given up."""
        return timedelta(days=self.expire_days)

    @property
    def payload_kept(self) -> timedelta:
        """How long what was sent is kept."""
        return timedelta(days=self.payload_days)

    @property
    def record_kept(self) -> timedelta:
        """How long the record of a delivery is kept from its end on."""
        return timedelta(days=self.record_days)

    @property
    def pause_after(self) -> timedelta:
        """From when an endpoint began to fail until its subscription pauses."""
        return timedelta(hours=self.pause_after_hours)

    @property
    def probe_every(self) -> timedelta:
        """Between the attempts at a paused endpoint."""
        return timedelta(minutes=self.probe_minutes)
