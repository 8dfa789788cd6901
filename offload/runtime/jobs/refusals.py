"""Why the job service does not do what was asked."""

from __future__ import annotations

from offload.runtime.refusals import EVERYWHERE, Refusal
from offload.runtime.refusals import Contended as Contended
from offload.runtime.refusals import IdempotencyConflict as IdempotencyConflict

JobRefused = Refusal


class UnknownType(JobRefused):
    """No job type has this name."""

    slug = "unknown-type"


class NotDeployed(JobRefused):
    """The type is known, but this environment has no function for it."""

    slug = "not-deployed"
    status = 503


class BadInput(JobRefused):
    """The input does not keep the type's contract; the message names the field."""

    slug = "bad-input"


class InputTooLarge(JobRefused):
    """The input is larger than a job may carry."""

    slug = "input-too-large"
    status = 413


class NoSuchLane(JobRefused):
    """The type has no such priority."""

    slug = "no-such-lane"


class BadTime(JobRefused):
    """`delay` and `run_at` are both there, or too far ahead."""

    slug = "bad-time"


class NoSuchJob(JobRefused):
    """There is no job of this id, or it is past its retention."""

    slug = "no-such-job"
    status = 404


class AlreadyEnded(JobRefused):
    """The job has ended: it cannot be cancelled."""

    slug = "already-ended"
    status = 409


class NotEnded(JobRefused):
    """The job is still open: there is nothing to retry, and no result."""

    slug = "not-ended"
    status = 409


class NotHeld(JobRefused):
    """Only a held job waits for a person's decision."""

    slug = "not-held"
    status = 409


class NotAsking(JobRefused):
    """The job asks nobody anything, or has its answer."""

    slug = "not-asking"
    status = 409


class NoSchedule(JobRefused):
    """The job type has no schedule."""

    slug = "no-schedule"
    status = 404


class LostLease(Exception):
    """The attempt may not go on: its lease ended, and the job has another state or another attempt."""


REFUSALS: tuple[type[JobRefused], ...] = (
    *EVERYWHERE,
    UnknownType,
    NotDeployed,
    BadInput,
    InputTooLarge,
    NoSuchLane,
    BadTime,
    NoSuchJob,
    AlreadyEnded,
    NotEnded,
    NotHeld,
    NotAsking,
    NoSchedule,
)
"""Every refusal of the API."""


class TooManyChildren(Exception):
    """A job's item does not hold the names of its children, so that it cannot wait for them."""
