"""What an endpoint may answer, byte for byte, beside one that is well: to the webhook sender and to the HTTP client.

Everything is real but the sockets: the pools, the streams, the parser, what is kept of an attempt and what follows from
it. Whatever an endpoint answers, the attempt ends, its neighbour's and its own next one have their own answers, and no
secret that was sent is kept. `OFFLOAD_PROVE=whole` tries 100,000 of each.
"""

from __future__ import annotations

import asyncio
import io
import re
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import pytest

from offload.contracts.egress import networks
from offload.contracts.webhooks_out.policy import Policy
from offload.contracts.webhooks_out.subscription import KEPT_OF_ANSWER, Attempt, Why
from offload.runtime.http.client import Answer, Client
from offload.runtime.http.connect import pool
from offload.runtime.http.failures import CallFailed, NotAnswered, RateLimited, Unsuccessful
from offload.runtime.http.guard import Guard
from offload.runtime.webhooks_out.items import Entry
from offload.runtime.webhooks_out.retries import LONGEST_RETRY_AFTER, after
from offload.runtime.webhooks_out.transport import Transport
from tests.fuzzing import Shard, shards
from tests.odd_answers import OddAnswer, an_answer
from tests.wires import MARK, IdleLoop, Server, async_wires, sync_wires

GUARD: Final = Guard(private=networks(["127.0.0.0/8"]), schemes=frozenset({"http"}), ports=None)
NOW: Final = datetime(2026, 11, 27, 12, tzinfo=UTC)
POLICY: Final = Policy()
TOKEN: Final = "tok" + "0123456789abcdef" * 10
SECRETS: Final = {"authorization": f"Bearer {TOKEN}", "x-key": "k3y-of-the-endpoint"}
# Less of a secret tells nothing.
TELLING: Final = 8
# The head of a success somewhere in what came: where an answer is wrong elsewhere, its status still counts.
SUCCESS: Final = re.compile(rb"(?s)HTTP/[0-9]\.[0-9] 2[0-9]{2}(?: [^\n]*)?\r?\n(?:.*?\n)?\r?\n")


def an_entry(attempts: int) -> Entry:
    return Entry(
        delivery="dlv_1",
        key="0",
        due_at=NOW,
        created_at=NOW,
        expires_at=NOW + POLICY.expires,
        event="1",
        source="test",
        type="thing.happened",
        subject="",
        body_key="body#1",
        attempts=attempts,
        base=0,
    )


def tells(text: str, *, of: int) -> bool:
    """Whether one of the secrets is in it, from its beginning on for at least `of` characters, in any case."""
    return any(word[:of] in text.lower() for value in SECRETS.values() for word in value.lower().split()[-1:])


def is_as_promised(attempt: Attempt, odd: OddAnswer) -> None:
    """What is kept of an attempt, and what follows from it."""
    if odd.known:
        assert attempt.status == odd.status
    elif attempt.succeeded:
        assert SUCCESS.search(odd.content)
    assert (attempt.status is None) == bool(attempt.error)
    assert len(attempt.error) <= 500
    assert attempt.error.isprintable()
    assert len(attempt.headers) <= 32
    assert all(len(name) <= 256 and len(value) <= 256 for name, value in attempt.headers.items())
    assert len(attempt.body) <= KEPT_OF_ANSWER
    kept = msgspec.json.encode(attempt)
    assert msgspec.json.decode(kept, type=Attempt) == attempt
    # Where the framing is wrong, a secret may be in pieces that are no secret's.
    assert not tells(kept.decode(), of=TELLING + 1 if odd.known else 1_000)
    then = after(attempt, now=NOW, schedule=POLICY.schedule, expires_at=NOW + POLICY.expires)
    assert then.delivered == attempt.succeeded
    assert [then.delivered, then.retry_at is not None, then.given_up is not None].count(True) == 1
    if then.retry_at is not None:
        usual = POLICY.schedule[attempt.number - 1]
        assert NOW + usual * 0.9 <= then.retry_at <= NOW + max(usual * 1.1, LONGEST_RETRY_AFTER)
    if then.given_up is not None:
        assert then.given_up in set(Why)
        assert attempt.number == len(POLICY.schedule) + 1 or then.given_up in {Why.GONE, Why.RECEIVER_SAID_NO}
    ends_in_time(attempt)
    assert then.endpoint_waits_until is None or NOW < then.endpoint_waits_until <= NOW + LONGEST_RETRY_AFTER


def ends_in_time(attempt: Attempt) -> None:
    """That a delivery ends whose endpoint always answers so."""
    now, number = NOW, 1
    while True:
        then = after(
            msgspec.structs.replace(attempt, number=number),
            now=now,
            schedule=POLICY.schedule,
            expires_at=NOW + POLICY.expires,
        )
        if then.retry_at is None:
            assert then.delivered or then.given_up in set(Why)
            return
        now, number = then.retry_at, number + 1
        assert now < NOW + POLICY.expires
        assert number <= len(POLICY.schedule) + 1


@pytest.mark.slow
@shards(300)
def test_an_attempt_ends_whatever_its_endpoint_answers_and_every_other_has_its_own_answer(shard: Shard) -> None:
    chance, server, loop = shard.chance(), Server(), IdleLoop()
    made = Transport(GUARD, timeout=POLICY.timeout, connect=timedelta(seconds=POLICY.connect_seconds), now=lambda: NOW)
    taken = 0

    async def attempt(endpoint: str, mark: str, attempts: int = 0) -> Attempt:
        headers = {**SECRETS, MARK: mark}
        return await made.attempt(f"http://127.0.0.1{endpoint}", an_entry(attempts), b'{"a": 1}', headers)

    async def case(number: int, odd: OddAnswer) -> Attempt:
        endpoint = f"/e/odd{number % 5}"
        server.scripts[endpoint] = odd.script
        # They run at the same time, over one pool and to one host.
        first, neighbour = await asyncio.gather(
            attempt(endpoint, f"odd{number}", chance.randrange(len(POLICY.schedule) + 1)),
            attempt("/e/neighbour", f"neighbour{number}"),
        )
        del server.scripts[endpoint]
        # What is still to come of the answer has come then.
        await asyncio.sleep(60)
        following = await attempt(endpoint, f"following{number}")
        for answered, mark in ((neighbour, f"neighbour{number}"), (following, f"following{number}")):
            assert (answered.status, answered.error, answered.body) == (200, "", f"mine: {mark}")
            assert answered.headers[MARK] == mark
        return first

    with async_wires(server, lambda: chance.choice((0.0, 0.0, 0.01))):
        for number in range(shard.cases):
            odd = an_answer(chance, chance.choice((SECRETS["authorization"], TOKEN, SECRETS["x-key"])).encode())
            with shard.case(number, odd):
                first = loop.run_until_complete(case(number, odd))
                is_as_promised(first, odd)
            taken += first.succeeded
        loop.run_until_complete(made.close())
    loop.close()
    assert shard.cases / 20 < taken < shard.cases
    # The neighbour's connection is kept, and so are those after right answers.
    assert server.connections < shard.cases * 2.2


def is_as_said(url: str, ended: Answer | CallFailed, odd: OddAnswer, method: str) -> None:
    """What a caller of the HTTP client gets."""
    text = f"{ended} {ended.__cause__}" if isinstance(ended, CallFailed) else ""
    assert text.isprintable()
    assert len(text) < 2_000 + len(url)
    assert not tells(text, of=TELLING + 1)
    if isinstance(ended, Answer):
        assert 200 <= ended.status < 300
        followed = MARK in ended.headers and b"location:" in odd.content.lower()
        assert followed or SUCCESS.search(odd.content)
        assert all(name == name.lower() for name in ended.headers)
    if isinstance(ended, RateLimited):
        assert timedelta(0) <= ended.wait <= timedelta(days=1)
    if isinstance(ended, Unsuccessful):
        assert ended.wait is None or timedelta(0) <= ended.wait <= timedelta(days=1)
    if not odd.known or odd.status in (206, *range(300, 400)) or method == "HEAD":
        return
    if odd.whole is None:
        assert isinstance(ended, NotAnswered)
        assert ended.unknown_outcome
    elif odd.status is not None and 200 <= odd.status < 300:
        assert isinstance(ended, Answer)
        assert (ended.status, ended.body) == (odd.status, odd.whole)
    else:
        assert isinstance(ended, Unsuccessful | RateLimited)
        assert ended.answer is not None
        assert (ended.answer.status, ended.answer.body) == (odd.status, odd.whole)


@pytest.mark.slow
@shards(300)
def test_a_call_ends_with_an_answer_or_its_failure_whatever_comes_and_the_next_has_its_own(shard: Shard) -> None:
    chance, server = shard.chance(), Server()
    waited: list[float] = []
    taken = 0
    with sync_wires(server), redirect_stdout(io.StringIO()) as printed:
        client = Client("third", GUARD, connections=pool(GUARD), sleep=waited.append, now=NOW.timestamp)
        for number in range(shard.cases):
            odd = an_answer(chance, chance.choice((SECRETS["authorization"], TOKEN, SECRETS["x-key"])).encode())
            method = chance.choice(("GET", "GET", "POST", "PUT", "HEAD"))
            server.scripts["/e/odd"] = odd.script
            with shard.case(number, (method, odd)):
                try:
                    ended: Answer | CallFailed = client.request(method, "http://127.0.0.1/e/odd", headers=SECRETS)
                except CallFailed as failed:
                    ended = failed
                is_as_said("http://127.0.0.1/e/odd", ended, odd, method)
                assert all(0 <= pause < 20 for pause in waited)
                mark = f"next{number}"
                following = client.get(f"http://127.0.0.1{chance.choice(('/e/odd2', '/e/next'))}", headers={MARK: mark})
                assert (following.status, following.body, following.headers[MARK]) == (
                    200,
                    f"mine: {mark}".encode(),
                    mark,
                )
                assert not tells(printed.getvalue(), of=TELLING + 1)
            taken += isinstance(ended, Answer)
            waited.clear()
            printed.seek(0)
            printed.truncate()
    assert shard.cases / 20 < taken < shard.cases
