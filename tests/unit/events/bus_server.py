"""An HTTP server that speaks PutEvents and misbehaves when told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from tests.odd_server import Behaviour, Received, by_request, odd_server, reset
from tests.odd_server import answer as answering

_ENTRIES = 10
_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """How the server treats one request."""

    failing: Mapping[int, str] = field(default_factory=dict)
    """Error codes by the entry's place."""
    status: int = 200
    code: str = ""
    reset: bool = False
    """Break the connection in place of an answer."""
    take: bool = True
    """Whether the bus takes the entries, whatever it answers."""
    body: bytes | None = None
    then: Callable[[], None] = lambda: None
    """Done once the entries are taken, before the answer."""


Decide = Callable[[list[dict[str, Any]]], Answer]


class Bus:
    """What the server was asked and what it took."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[list[dict[str, Any]]] = []
        self.taken: list[dict[str, Any]] = []
        """The entries on the bus, in the order they were taken; `detail` is decoded."""
        self.script: list[Answer] = []
        """Answers to the next requests; after them `decide` is asked."""
        self.decide: Decide = lambda _: Answer()
        self.lock = threading.Lock()

    @property
    def ids(self) -> list[str]:
        """The ids of the events on the bus."""
        with self.lock:
            return [entry["detail"]["id"] for entry in self.taken]

    def asked(self) -> list[list[str]]:
        """The events' ids of each request."""
        return [[json.loads(entry["Detail"])["id"] for entry in request] for request in self.requests]

    def client(self) -> Any:
        """A boto3 client for the server, without retries of its own."""
        return boto3.client(
            "events",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="000000000000",
            aws_secret_access_key="test",
            config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 1}),
        )

    def handle(self, entries: list[dict[str, Any]]) -> Answer:
        with self.lock:
            self.requests.append(entries)
            size = sum(len((e["Source"] + e["DetailType"] + e["Detail"]).encode()) for e in entries)
            if len(entries) > _ENTRIES or size > _BYTES:
                return Answer(status=400, code="ValidationException", take=False)
            answer = self.script.pop(0) if self.script else self.decide(entries)
            if answer.take:
                for at, entry in enumerate(entries):
                    if at not in answer.failing:
                        self.taken.append({**entry, "detail": json.loads(entry["Detail"])})
        answer.then()
        return answer

    def behaviour(self, request: Received) -> Behaviour:
        """What the request's Answer says."""
        entries: list[dict[str, Any]] = json.loads(request.body)["Entries"]
        answer = self.handle(entries)
        if answer.reset:
            return reset()
        if answer.code:
            content = json.dumps({"__type": answer.code, "message": f"told to say {answer.code}"}).encode()
        elif answer.body is not None:
            content = answer.body
        else:
            results = [
                {"ErrorCode": answer.failing[at], "ErrorMessage": "told to"}
                if at in answer.failing
                else {"EventId": f"e{at}"}
                for at in range(len(entries))
            ]
            content = json.dumps({"FailedEntryCount": len(answer.failing), "Entries": results}).encode()
        return answering(answer.status, content, {"Content-Type": "application/x-amz-json-1.1"})


@contextmanager
def serving() -> Iterator[Bus]:
    """Runs a server on a free port of this machine."""
    bus = Bus()
    with odd_server(by_request(bus.behaviour)) as server:
        bus.url = server.url("")
        yield bus
