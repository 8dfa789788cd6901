"""One invocation of the sender: its batch, and what it takes from its lane while an endpoint hangs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

import boto3
import pytest

from offload.runtime.log import Logger
from offload.runtime.webhooks_out.health import EndpointHealth
from offload.runtime.webhooks_out.sender import Sent
from offload.runtime.webhooks_out.shift import Shift
from offload.runtime.webhooks_out.tokens import Lane, QueueTokens, subscription_of
from tests.patience import PATIENCE, queue_without_redelivery

pytestmark = pytest.mark.usefixtures("aws_of_module")

HANGS: Final = "sub_hangs"


class Queue:
    """A lane in SQS."""

    def __init__(self) -> None:
        self._sqs = boto3.client("sqs")
        self.url = queue_without_redelivery(self._sqs, f"lane-{uuid.uuid4().hex[:8]}")

    def holds(self, *subscriptions: str) -> None:
        """Sends a token for each."""
        for each in subscriptions:
            QueueTokens(self.url, self.url).send(each, proven=True)

    def counts(self) -> tuple[int, int]:
        """How many wait, and how many were taken and not deleted."""
        names: Any = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        found = self._sqs.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])


class Endpoints:
    """What is sent to. One that hangs does so until the others, `meanwhile`, have had their turn."""

    def __init__(self, *, meanwhile: Collection[str] = (), fail: Collection[str] = ()) -> None:
        self.meanwhile = set(meanwhile)
        self._fail = fail
        self.worked: list[str] = []
        self.at_once = self.most_at_once = 0
        self._answers = asyncio.Event()
        self._answer_when_done()

    def _answer_when_done(self) -> None:
        if self.meanwhile <= set(self.worked):
            self._answers.set()

    async def work(self, subscription: str) -> Sent:
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        try:
            if subscription in self._fail:
                raise ConnectionError(subscription)
            if subscription.startswith(HANGS):
                await self._answers.wait()
        finally:
            self.at_once -= 1
            self.worked.append(subscription)
            self._answer_when_done()
        return Sent(attempts=1, delivered=1)

    def answer(self) -> None:
        """Lets those that hang answer."""
        self._answers.set()


def shift_of(queue: Queue, endpoints: Endpoints, *, left: float = 45.0) -> Shift:
    return Shift(
        endpoints.work,
        Lane(queue.url, Logger("test")),
        left=lambda: timedelta(seconds=left),
        need=timedelta(seconds=20),
        log=Logger("test"),
    )


async def batch(shift: Shift, *names: str) -> list[str]:
    return list(await asyncio.wait_for(shift.batch(names), PATIENCE))


def test_a_wake_up_is_in_the_group_of_its_subscription_so_that_one_that_is_slow_does_not_hold_up_others() -> None:
    queue, sqs = Queue(), boto3.client("sqs")
    queue.holds("sub_one")
    QueueTokens(queue.url, queue.url).send_all({"sub_two": EndpointHealth(), "sub_three": EndpointHealth()})
    groups = {}
    for _ in range(3):
        [message] = sqs.receive_message(QueueUrl=queue.url, MessageSystemAttributeNames=["MessageGroupId"])["Messages"]
        groups[subscription_of(message["Body"])] = message["Attributes"]["MessageGroupId"]
    assert groups == {name: name for name in ("sub_one", "sub_two", "sub_three")}


def test_while_one_hangs_the_lane_goes_on() -> None:
    queue = Queue()
    others = [f"sub_{number}" for number in range(25)]
    queue.holds(*others)

    async def run() -> None:
        endpoints = Endpoints(meanwhile=others)
        shift = shift_of(queue, endpoints)
        assert await batch(shift, HANGS, "sub_quick") == []
        assert endpoints.worked[0] == "sub_quick"
        assert endpoints.worked[-1] == HANGS
        assert (shift.taken, shift.sent) == (25, Sent(attempts=27, delivered=27))

    asyncio.run(run())
    assert queue.counts() == (0, 0)


def test_a_batch_in_which_none_hangs_takes_nothing() -> None:
    queue = Queue()
    queue.holds("sub_waits")

    async def run() -> None:
        endpoints = Endpoints()
        shift = shift_of(queue, endpoints)
        assert await batch(shift, "sub_a", "sub_b") == []
        assert (shift.taken, endpoints.worked) == (0, ["sub_a", "sub_b"])

    asyncio.run(run())
    assert queue.counts() == (1, 0)


def test_what_fails_comes_again_whether_of_the_batch_or_taken(capsys: pytest.CaptureFixture[str]) -> None:
    queue = Queue()
    queue.holds("sub_fails", "sub_well")

    async def run() -> None:
        endpoints = Endpoints(meanwhile=("sub_fails", "sub_well"), fail=("sub_fails", "sub_fails_too"))
        shift = shift_of(queue, endpoints)
        assert await batch(shift, HANGS, "sub_fails_too") == ["sub_fails_too"]
        assert shift.sent == Sent(attempts=2, delivered=2)

    asyncio.run(run())
    assert queue.counts() == (0, 1)
    said = capsys.readouterr().out
    assert all(f'"subscription":"{name}"' in said for name in ("sub_fails", "sub_fails_too"))


def test_one_whose_lease_was_lost_comes_again() -> None:
    async def run() -> None:
        async def lost(_: str) -> Sent:
            raise asyncio.CancelledError

        shift = Shift(
            lost,
            Lane("", Logger("test")),
            left=lambda: timedelta(seconds=45),
            need=timedelta(seconds=20),
            log=Logger("test"),
        )
        assert await batch(shift, "sub_a") == ["sub_a"]

    asyncio.run(run())


@pytest.mark.parametrize("left", [20.0, 21.0])
def test_nothing_is_taken_for_which_no_time_is_left(left: float) -> None:
    queue = Queue()
    queue.holds("sub_waits")

    async def run() -> None:
        endpoints = Endpoints(meanwhile=("nobody",))
        shift = shift_of(queue, endpoints, left=left)
        working = asyncio.create_task(batch(shift, HANGS))
        await asyncio.sleep(2)  # it hangs after one
        endpoints.answer()
        assert await working == []
        assert shift.taken == 0

    asyncio.run(run())
    assert queue.counts() == (1, 0)


def test_as_many_as_an_invocation_bears_are_under_way_at_once() -> None:
    queue = Queue()
    queue.holds(*(f"{HANGS}_{number}" for number in range(30)))

    async def run() -> None:
        endpoints = Endpoints(meanwhile=("nobody",))
        shift = shift_of(queue, endpoints)
        working = asyncio.create_task(batch(shift, HANGS))
        ends = asyncio.get_running_loop().time() + PATIENCE
        while endpoints.at_once < 20:
            assert asyncio.get_running_loop().time() < ends
            await asyncio.sleep(0.02)
        assert shift.taken == 19
        endpoints.answer()
        assert await working == []
        assert endpoints.most_at_once == 20

    asyncio.run(run())


def test_a_lane_that_cannot_be_reached_holds_up_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    queue = Queue()
    queue.url += "-gone"

    async def run() -> None:
        endpoints = Endpoints(meanwhile=("nobody",))
        shift = shift_of(queue, endpoints)
        working = asyncio.create_task(batch(shift, HANGS))
        ends = asyncio.get_running_loop().time() + PATIENCE
        while shift._takes:
            assert asyncio.get_running_loop().time() < ends
            await asyncio.sleep(0.02)
        endpoints.answer()
        assert await working == []

    asyncio.run(run())
    assert "no tokens taken" in capsys.readouterr().out
