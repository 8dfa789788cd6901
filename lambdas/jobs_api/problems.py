"""Refusals as they travel: problem details of RFC 9457, with types that stay the same."""

from __future__ import annotations

from typing import Final

from offload.contracts.jobs.api import PROBLEM, Problem
from offload.runtime.jobs.refusals import JobRefused

CONTENT_TYPE: Final = "application/problem+json"


def problem_of(refused: JobRefused) -> Problem:
    """The problem that a refusal is."""
    return Problem(f"{PROBLEM}{refused.slug}", refused.title(), refused.status, str(refused))
