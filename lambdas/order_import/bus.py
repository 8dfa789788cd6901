"""Puts events on the bus as they come, in tens; the ledger of what is out is the caller's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.backoff import full_jitter
from offload.contracts.events.claim import claim_key, claim_reference
from offload.contracts.events.entry import REQUEST_BYTES, REQUEST_ENTRIES, WHOLE_BYTES, Entry
from offload.runtime import aws, bus
from offload.runtime.bus import NotPublished

ATTEMPTS: Final = 6
_BASE_SECONDS: Final = 0.1
_CAP_SECONDS: Final = 5.0


class _Refused(NamedTuple):
    entry: Entry
    why: str


class Bus:
    """The bus `name`; the data of events too large for it go to `claims_bucket`."""

    def __init__(self, name: str, claims_bucket: str, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._name = name
        self._claims_bucket = claims_bucket
        self._sleep = sleep
        self._waiting: list[Entry] = []
        self._bytes = 0

    def put(self, entry: Entry) -> None:
        """Takes an event, and sends as soon as there are enough; raises as `flush` does."""
        if entry.size() > WHOLE_BYTES:
            entry = self._claimed(entry)
        size = entry.size()
        if self._bytes + size > REQUEST_BYTES:
            self.flush()
        self._waiting.append(entry)
        self._bytes += size
        if len(self._waiting) == REQUEST_ENTRIES:
            self.flush()

    def flush(self) -> None:
        """Sends what has not been sent yet; raises NotPublished when the bus will not have it after some attempts."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for attempt in range(1, ATTEMPTS + 1):
            if not waiting:
                return
            refused = self._send(waiting)
            waiting = [each.entry for each in refused]
            if refused and attempt < ATTEMPTS:
                self._sleep(full_jitter(attempt, base=_BASE_SECONDS, cap=_CAP_SECONDS))
        if waiting:
            first = refused[0]
            more = f" and {len(refused) - 1} more events" if len(refused) > 1 else ""
            raise NotPublished(
                f"the bus '{self._name}' did not take '{first.entry.id}'{more} in {ATTEMPTS} attempts: {first.why}"
            )

    def _send(self, entries: Sequence[Entry]) -> list[_Refused]:
        try:
            answers = bus.put(self._name, entries)
        except (BotoCoreError, ClientError) as error:
            return [_Refused(entry, str(error)) for entry in entries]
        return [_Refused(entry, str(why)) for entry, why in zip(entries, answers, strict=True) if why]

    def _claimed(self, entry: Entry) -> Entry:
        data = entry.data()
        key = claim_key(entry.type, data)
        aws.s3().put_object(Bucket=self._claims_bucket, Key=key, Body=data, ContentType="application/json")
        return entry.claimed(claim_reference(self._claims_bucket, key))
