"""Where the functions of job types are: each deployed BackgroundJob leaves its place in a parameter of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import msgspec
from botocore.exceptions import ClientError

from offload.contracts.jobs.job_type import Priority
from offload.runtime import aws
from offload.runtime.jobs.refusals import NoSuchLane, NotDeployed

_KEPT_SECONDS: Final = 60.0


class Place(msgspec.Struct, frozen=True):
    """The queues of a type by lane."""

    queues: dict[str, str]


class Registry:
    """Reads the places below `path` from SSM, and keeps each for a minute."""

    def __init__(self, path: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._kept: dict[str, tuple[float, Place]] = {}

    def place(self, job_type: str) -> Place:
        """The place of a type; raises NotDeployed."""
        kept = self._kept.get(job_type)
        if kept and self._clock() - kept[0] < _KEPT_SECONDS:
            return kept[1]
        try:
            answer = aws.ssm().get_parameter(Name=f"{self._path}/{job_type}")
        except ClientError as error:
            # Without a deployed type there is no permission for its parameter either.
            if error.response.get("Error", {}).get("Code") in ("ParameterNotFound", "AccessDeniedException"):
                raise NotDeployed(f"job type '{job_type}' has no function here: deploy its BackgroundJob") from error
            raise
        place = msgspec.json.decode(answer["Parameter"]["Value"], type=Place)
        self._kept[job_type] = (self._clock(), place)
        return place

    def queue(self, job_type: str, lane: Priority) -> str:
        """The URL of a lane's queue; raises NotDeployed, NoSuchLane."""
        queues = self.place(job_type).queues
        if lane not in queues:
            raise NoSuchLane(f"priority: job type '{job_type}' has the lanes {', '.join(queues)}, not '{lane}'")
        return queues[lane]
