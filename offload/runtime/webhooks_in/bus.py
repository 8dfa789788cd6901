"""Puts events of webhooks on the bus; who failed is for the caller to keep."""

from __future__ import annotations

from collections.abc import Sequence

from offload.contracts.events.entry import REQUEST_BYTES, REQUEST_ENTRIES, Entry, answered
from offload.runtime.lean_aws import AwsRefused, AwsUnreachable, Service


class Bus:
    """The bus `name`."""

    def __init__(self, name: str, events: Service) -> None:
        self._name = name
        self._events = events

    def put(self, entries: Sequence[Entry], *, within: float) -> list[str]:
        """Sends at most a request's worth; of each why the bus did not take it, empty when it did.

        A request without an answer counts as not taken: the events may be sent again, under the same ids.
        """
        requests = [entry.request(self._name) for entry in entries]
        try:
            answer = self._events.call("PutEvents", {"Entries": requests}, within=within)
        except (AwsRefused, AwsUnreachable) as error:
            return [str(error)] * len(entries)
        return [str(why) if why else "" for why in answered(answer, len(entries))]


class Batch:
    """Entries of one request, as many as fit."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._bytes = 0

    def takes(self, entry: Entry) -> bool:
        """Adds an entry if it fits."""
        size = entry.size()
        if self.entries and (len(self.entries) == REQUEST_ENTRIES or self._bytes + size > REQUEST_BYTES):
            return False
        self.entries.append(entry)
        self._bytes += size
        return True
