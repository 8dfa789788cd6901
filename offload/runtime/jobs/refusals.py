"""Why the job service does not do what was asked; every refusal has a stable name and says what to do."""

from __future__ import annotations

from typing import ClassVar


class JobRefused(Exception):
    """What was asked is not done, and nothing of it. `slug` is stable: the end of the problem's `type`."""

    slug: ClassVar[str] = "refused"
    status: ClassVar[int] = 422

    @classmethod
    def title(cls) -> str:
        """What is the same of every case."""
        return (cls.__doc__ or cls.slug).partition(";")[0].rstrip(".")


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


class IdempotencyConflict(JobRefused):
    """The idempotency key was used with other content."""

    slug = "idempotency-conflict"
    status = 409


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


class Contended(JobRefused):
    """Others changed the job at the same moment, again and again; ask again."""

    slug = "contended"
    status = 503


class BadRequest(JobRefused):
    """The request is not what this call takes; the detail names the field."""

    slug = "bad-request"
    status = 400


class NoSuchPath(JobRefused):
    """There is no such path; schemas/jobs/openapi.json has all of them."""

    slug = "no-such-path"
    status = 404


class WrongMethod(JobRefused):
    """The path does not take that method; the header Allow names those it takes."""

    slug = "wrong-method"
    status = 405


class BodyTooLarge(JobRefused):
    """The body is too large; what is large goes to a place that POST /uploads gives."""

    slug = "body-too-large"
    status = 413


class UnsupportedMediaType(JobRefused):
    """The body is not JSON by its Content-Type."""

    slug = "unsupported-media-type"
    status = 415


class NoSchedule(JobRefused):
    """The job type has no schedule."""

    slug = "no-schedule"
    status = 404


class Unavailable(JobRefused):
    """The service could not reach its store; send it again, under the same Idempotency-Key."""

    slug = "unavailable"
    status = 503


class LostLease(Exception):
    """The attempt may not go on: its lease ended, and the job has another state or another attempt."""
