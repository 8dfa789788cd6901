"""One attempt at an endpoint: what is sent, within which limits, and what came back.

Many are made at once in one event loop, over one pool of warm connections whose addresses the guard has checked. A
destination in AWS, a queue or a bus of another account, is called by botocore in a thread.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import botocore.session
import httpcore
from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.events.entry import Entry as BusEntry
from offload.contracts.events.entry import answered
from offload.contracts.webhooks_out.subscription import KEPT_OF_ANSWER, Attempt
from offload.runtime.http.async_connect import OwnedUrl, async_pool
from offload.runtime.http.connect import Resolve, addresses_of
from offload.runtime.http.guard import AddressRefused, Guard
from offload.runtime.webhooks_out.items import Entry

USER_AGENT: Final = "Offload"

MOST_HEADERS_OF_A_QUEUE: Final = 7
"""A subscription's own headers that fit beside Standard Webhooks' three: a message of SQS has at most ten attributes
(docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html, 2026-11-27)."""

# As many as an invocation may have under way: ten endpoints, each with its largest window.
_CONNECTIONS: Final = 240
# Most servers close after 5 s (Node) or more; a connection that they have closed meanwhile would cost an attempt.
_KEEPALIVE_SECONDS: Final = 4.0
# An answer is read for its status; what is beyond is not waited for.
_LONGEST_ANSWER: Final = 64 * 1024
_KEPT_HEADERS: Final = 32
_CALLS_TO_AWS: Final = 32
_LONGEST_HEADER: Final = 256
# Less can be guessed, and is found in texts that have nothing to do with it.
_SHORTEST_SECRET: Final = 8
# What these say is no secret, and stands in answers too.
_NO_SECRETS: Final = frozenset({"accept", "accept-charset", "accept-language", "cache-control", "pragma", "prefer"})
_ARN: Final = re.compile(
    r"arn:(?P<partition>aws[a-z-]*):(?P<service>sqs|events):(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):"
    r"(?P<name>(event-bus/)?[A-Za-z0-9_./-]{1,256})"
)


def is_arn(url: str) -> bool:
    """Whether a subscription's address is the ARN of a queue or a bus."""
    match = _ARN.fullmatch(url)
    return match is not None and (match["service"] == "events") == match["name"].startswith("event-bus/")


def is_queue(arn: str) -> bool:
    """Whether the ARN is a queue's."""
    return arn.split(":")[2] == "sqs"


class Transport:
    """Makes attempts. `timeout` is for one in all; `now` the clock of the attempts' times."""

    def __init__(
        self,
        guard: Guard,
        *,
        timeout: timedelta,
        connect: timedelta,
        now: Callable[[], datetime],
        context: ssl.SSLContext | None = None,
        resolve: Resolve = addresses_of,
    ) -> None:
        self._guard = guard
        self._timeout = timeout.total_seconds()
        self._connect = connect.total_seconds()
        self._now = now
        self._pool: httpcore.AsyncConnectionPool | None = None
        self._context = context
        self._resolve = resolve
        self._clients: dict[tuple[str, str], Any] = {}
        # Threads of their own: a queue of somebody else's that hangs must not hold up what the sender writes down.
        self._aws = ThreadPoolExecutor(max_workers=_CALLS_TO_AWS, thread_name_prefix="aws-destination")

    async def attempt(self, url: str, entry: Entry, body: bytes, headers: Mapping[str, str]) -> Attempt:
        """One attempt, its number the one after those there were; it never raises for what a receiver does."""
        began, at = time.monotonic(), self._now()
        answer, error = _Answer(own=_own(headers)), ""
        try:
            if is_arn(url):
                calls = asyncio.get_running_loop()
                answer.status = await calls.run_in_executor(self._aws, self._to_aws, url, entry, body, headers)
            else:
                async with asyncio.timeout(self._timeout):
                    await self._post(url, body, headers, answer)
        except TimeoutError:
            # Once there is a status, what takes too long is only the text for whoever looks it up.
            error = "" if answer.status is not None else f"no answer within {self._timeout:g} s"
        except AddressRefused as refused:
            error = f"address refused ({refused.rule}): {refused}"
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as failed:
            error = _told(failed)
        except (httpcore.UnsupportedProtocol, ssl.SSLError, OSError) as failed:
            error = _told(failed)
        except ClientError as failed:
            error = f"{failed.operation_name}: {failed.response.get('Error', {}).get('Code', 'refused')}"
        except (BotoCoreError, UnicodeError) as failed:
            # Their texts quote what was to be sent, headers too.
            error = type(failed).__name__
        return Attempt(
            number=entry.attempts + 1,
            at=at,
            duration_ms=round((time.monotonic() - began) * 1000),
            status=answer.status,
            error=error[:500],
            headers={
                answer.shown(name)[:_LONGEST_HEADER]: answer.shown(value)[:_LONGEST_HEADER]
                for name, value in answer.headers.items()
            },
            body=answer.shown_body()[:KEPT_OF_ANSWER],
            url=url,
        )

    async def close(self) -> None:
        """Closes what is kept open."""
        if self._pool is not None:
            await self._pool.aclose()
            self._pool = None

    async def _post(self, url: str, body: bytes, headers: Mapping[str, str], answer: _Answer) -> None:
        target = self._guard.target(url)
        if self._pool is None:
            self._pool = async_pool(
                self._guard,
                resolve=self._resolve,
                context=self._context,
                connections=_CONNECTIONS,
                keepalive_seconds=_KEEPALIVE_SECONDS,
            )
        sent = {
            "host": target.authority,
            "user-agent": USER_AGENT,
            "content-type": "application/json",
            "content-length": str(len(body)),
            "accept-encoding": "identity",
            **headers,
        }
        limits = {"connect": self._connect, "read": self._timeout, "write": self._timeout, "pool": self._timeout}
        # A connection serves one endpoint: what comes too late can only be taken for an answer of its own.
        where = OwnedUrl(scheme=target.scheme, host=target.host, port=target.port, target=target.path, owner=url)
        async with self._pool.stream(
            "POST", where, headers=list(sent.items()), content=body, extensions={"timeout": limits}
        ) as response:
            answer.status, answer.headers = response.status, _headers(response.headers)
            with suppress(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError):
                # Cut short or not: whether the receiver took the event is what its status said.
                await _read(response, answer)

    def _to_aws(self, arn: str, entry: Entry, body: bytes, headers: Mapping[str, str]) -> int:
        match = _ARN.fullmatch(arn)
        if match is None:
            raise OSError(f"'{arn}' is no ARN of a queue or a bus")
        client = self._client(match["service"], match["region"])
        if match["service"] == "sqs":
            url = client.get_queue_url(QueueName=match["name"], QueueOwnerAWSAccountId=match["account"])["QueueUrl"]
            attributes = {name: {"DataType": "String", "StringValue": value} for name, value in headers.items()}
            answer = client.send_message(
                QueueUrl=url, MessageBody=body.decode(), MessageAttributes=attributes, **_place(match["name"], entry)
            )
        else:
            detail = {**json.loads(body), "delivery": entry.delivery}
            event = BusEntry(entry.delivery, entry.source, entry.type, json.dumps(detail).encode())
            answer = client.put_events(Entries=[event.request(arn)])
            [why] = answered(answer, 1)
            if why:
                raise OSError(f"PutEvents: {why.code}")
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    def _client(self, service: str, region: str) -> Any:
        if (service, region) not in self._clients:
            session = botocore.session.get_session()
            config = botocore.config.Config(
                connect_timeout=self._connect, read_timeout=self._timeout, retries={"total_max_attempts": 1}
            )
            self._clients[service, region] = session.create_client(service, region_name=region, config=config)
        return self._clients[service, region]


@dataclass
class _Answer:
    """What came back, as far as it came. `own` are the values of the subscription's headers: no record has them."""

    own: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    kept: bytes = b""

    def keep(self, content: bytes) -> None:
        """Keeps of the body what is shown of it, and what one of the values may be cut at."""
        self.kept = (self.kept + content)[: KEPT_OF_ANSWER + max(map(len, self.own), default=0)]

    def shown(self, text: str) -> str:
        """The text, of a receiver that sends back what it was sent, without the values of headers, in any case."""
        lower = text.lower()
        for value, name in self.own.items():
            if value.lower() in lower:
                text = re.sub(re.escape(value), f"(the value of {name})", text, flags=re.IGNORECASE | re.ASCII)
                lower = text.lower()
        return text

    def shown_body(self) -> str:
        """What is kept of the body, likewise; a value at whose middle it ends is left out."""
        text = self.shown(self.kept.decode(errors="replace"))
        for value in map(str.lower, self.own):
            end = text[1 - len(value) :].lower()
            at = end.find(value[:_SHORTEST_SECRET])
            while at >= 0 and not value.startswith(end[at:]):
                at = end.find(value[:_SHORTEST_SECRET], at + 1)
            if at >= 0:
                text = text[: at - len(end)]
        return text


def _own(headers: Mapping[str, str]) -> dict[str, str]:
    """The names of the subscription's own headers by their values and the words of these, the longest first."""
    own = {
        text: name
        for name, value in headers.items()
        if name.lower() not in _NO_SECRETS and not name.lower().startswith("webhook-")
        for text in (value, *value.split())
        if len(text) >= _SHORTEST_SECRET
    }
    return dict(sorted(own.items(), key=lambda pair: -len(pair[0])))


def _place(queue: str, entry: Entry) -> dict[str, str]:
    """What a FIFO queue wants to know: what is in one order, and what is the same. Sent again on request is not."""
    if not queue.endswith(".fifo"):
        return {}
    subject = sha256(entry.subject.encode()).hexdigest() if entry.subject else entry.delivery
    return {"MessageGroupId": subject, "MessageDeduplicationId": f"{entry.delivery}-{entry.base}"}


async def _read(response: httpcore.Response, answer: _Answer) -> None:
    size = 0
    async for chunk in response.aiter_stream():
        size += len(chunk)
        answer.keep(chunk)
        if size >= _LONGEST_ANSWER:
            return


def _headers(pairs: list[tuple[bytes, bytes]]) -> dict[str, str]:
    found = {}
    for name, value in pairs[:_KEPT_HEADERS]:
        found[name.decode("ascii", "replace").lower()] = value.decode("latin-1")
    return found


def _told(error: Exception) -> str:
    """What is kept of an error whose text is ours or the system's, and quotes nothing of the request."""
    said = str(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
