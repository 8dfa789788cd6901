"""Refusals as they travel: problem details of RFC 9457, with types that stay the same."""

from __future__ import annotations

from msgspec import Struct

from offload.runtime.jobs.refusals import JobRefused

CONTENT_TYPE = "application/problem+json"
_URN = "urn:offload:problem:"


class Problem(Struct, frozen=True):
    """What is wrong, and what to do."""

    type: str
    title: str
    status: int
    detail: str = ""


class Refusal(Exception):
    """Raised for a request that is not carried out."""

    def __init__(self, slug: str, title: str, status: int, detail: str = "") -> None:
        super().__init__(detail or title)
        self.problem = Problem(f"{_URN}{slug}", title, status, detail)


def problem_of(refused: JobRefused) -> Problem:
    """The problem that a refusal of the job store is."""
    title = (type(refused).__doc__ or refused.slug).partition(";")[0].rstrip(".")
    return Problem(f"{_URN}{refused.slug}", title, refused.status, str(refused))
