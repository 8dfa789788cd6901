"""The job type of the benchmark: it takes a number and gives it back."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from msgspec import Struct

from offload.contracts.jobs.job_type import JobType


class Number(Struct, frozen=True, kw_only=True):
    """Any number."""

    number: int


NOTHING: Final = JobType(name="nothing", input=Number, result=Number, timeout=timedelta(seconds=10))
