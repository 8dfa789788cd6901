"""One replay of the bus's archive to one rule, under a name that follows from its job's."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import datetime
from hashlib import sha256
from typing import Final

from offload.runtime import aws
from offload.runtime.jobs.run import Cancelled, Permanent, RetryAfter, Run

PREFIX: Final = "missing-"
"""What the names of replays begin with; the function may start no others (offload/cdk/constructs/event_bus.py)."""

_LOOK_EVERY: Final = 2.0  # seconds
# Of the 15 minutes that an attempt has, what is left is for counting before and waiting after.
_LOOKED_AT_FOR: Final = 480.0
_BAD_ENDS: Final = frozenset({"CANCELLED", "FAILED"})


class Replay:
    """The replay of a job. However many attempts the job takes, it is one."""

    def __init__(self, job: str, archive: str, bus: str, rule: str) -> None:
        self.name = PREFIX + sha256(job.encode()).hexdigest()[:32]
        self._archive = archive
        self._bus = bus
        self._rule = rule

    def run(self, begin: datetime, end: datetime, run: Run) -> None:
        """Has the events of a period brought again, and waits for the last; a job that is cancelled ends it.

        Raises Permanent when it fails, RetryAfter when it takes longer than an attempt has time for.
        """
        client = aws.events()
        # It exists when an attempt before this one began it.
        with suppress(client.exceptions.ResourceAlreadyExistsException):
            client.start_replay(
                ReplayName=self.name,
                EventSourceArn=self._archive,
                EventStartTime=begin,
                EventEndTime=end,
                Destination={"Arn": self._bus, "FilterArns": [self._rule]},
            )
        try:
            self._wait(run)
        except Cancelled:
            # Refused when it has ended by itself.
            with suppress(client.exceptions.ClientError):
                client.cancel_replay(ReplayName=self.name)
            raise

    def _wait(self, run: Run) -> None:
        until = time.monotonic() + _LOOKED_AT_FOR
        while True:
            answer = aws.events().describe_replay(ReplayName=self.name)
            state = answer["State"]
            if state == "COMPLETED":
                return
            if state in _BAD_ENDS:
                raise Permanent(
                    f"the replay {self.name} {state.lower()}: {answer.get('StateReason', 'without a reason')}"
                )
            if time.monotonic() > until:
                raise RetryAfter(
                    30, f"the replay {self.name} goes on: {self._far(answer.get('EventLastReplayedTime'))}"
                )
            run.check()
            time.sleep(_LOOK_EVERY)

    @staticmethod
    def _far(last: datetime | None) -> str:
        return f"it is at {last.isoformat()}" if last else "it has not begun"
