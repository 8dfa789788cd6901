"""What a sender does in one invocation: a batch of tokens, and while an endpoint hangs others of its lane.

An invocation lasts as long as the slowest endpoint of its batch. It would wait for that one, and with as many such
endpoints as the lane has senders all others would wait with it. So it takes tokens from the lane itself meanwhile, as
Lambda's poller would have, and deletes those that are done.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine
from datetime import timedelta
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from offload.runtime.log import Logger
from offload.runtime.webhooks_out.sender import Sent
from offload.runtime.webhooks_out.tokens import BATCH, Lane, Token

_AT_ONCE: Final = 20
"""Subscriptions that one invocation works on at once."""
_HANGS_AFTER: Final = 1.0  # seconds
_LOOKS_EVERY: Final = 0.25
"""Seconds between two looks into a lane that was empty: for one that hangs for 15 s, $0.00002 of requests.

SQS's long poll would last beyond the end of what hangs.
"""
_LOOK_TAKES: Final = timedelta(seconds=1)


class Shift:
    """One invocation: `work` sends to one subscription, and a token is taken while more than `need` is `left`."""

    def __init__(
        self,
        work: Callable[[str], Coroutine[Any, Any, Sent]],
        lane: Lane,
        *,
        left: Callable[[], timedelta],
        need: timedelta,
        log: Logger,
    ) -> None:
        self._work = work
        self._lane = lane
        self._takes = True
        self._left = left
        self._need = need + _LOOK_TAKES
        self._log = log
        self._began: dict[asyncio.Task[Sent], float] = {}
        self._taken: dict[asyncio.Task[Sent], Token] = {}
        self.sent: Final = Sent()
        self.taken = 0

    async def batch(self, names: Collection[str]) -> Collection[str]:
        """Works on the subscriptions of a batch, each once; those that failed, of which the log has what was raised."""
        tasks = {name: self._begin(name) for name in names}
        looks_at = 0.0
        while pending := [task for task in self._began if not task.done()]:
            now, room = time.monotonic(), _AT_ONCE - len(pending)
            looks_at = max(looks_at, min(self._began[task] for task in pending) + _HANGS_AFTER)
            if not self._takes or room <= 0 or self._left() <= self._need:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            elif now < looks_at:
                await asyncio.wait(pending, timeout=looks_at - now)
            elif not await self._take(room):
                looks_at = now + _LOOKS_EVERY
            await self._settle()
        await self._settle()
        return [name for name, task in tasks.items() if not self._succeeded(task, name)]

    def _begin(self, name: str) -> asyncio.Task[Sent]:
        task = asyncio.create_task(self._work(name))
        self._began[task] = time.monotonic()
        return task

    async def _take(self, most: int) -> bool:
        """Begins with tokens of the lane; False when there were none."""
        try:
            tokens = await asyncio.to_thread(self._lane.take, most)
        except (BotoCoreError, ClientError) as error:
            # Lambda's poller takes them; what is under way here goes on.
            self._takes = False
            self._log.warning("no tokens taken", error=str(error))
            return False
        self.taken += len(tokens)
        for token in tokens:
            self._taken[self._begin(token.subscription)] = token
        return bool(tokens)

    async def _settle(self) -> None:
        """Deletes the tokens that were taken and are done; those that failed come again once they are visible."""
        ended = [(task, token) for task, token in self._taken.items() if task.done()]
        for task, _ in ended:
            del self._taken[task]
        done = [token for task, token in ended if self._succeeded(task, token.subscription)]
        for start in range(0, len(done), BATCH):
            try:
                await asyncio.to_thread(self._lane.delete, done[start : start + BATCH])
            except (BotoCoreError, ClientError) as error:
                self._log.warning("tokens not deleted", error=str(error))

    def _succeeded(self, task: asyncio.Task[Sent], name: str) -> bool:
        """Whether a task that has ended did its work, which is then counted; otherwise the log says why not."""
        # One whose lease became another's was cancelled.
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._log.error("sender", exc_info=error, subscription=name)
            return False
        sent = task.result()
        self.sent.attempts += sent.attempts
        self.sent.delivered += sent.delivered
        self.sent.given_up += sent.given_up
        return True
