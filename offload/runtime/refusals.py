"""Why an API does not do what was asked; every refusal has a stable name and says what to do."""

from __future__ import annotations

from typing import ClassVar


class Refusal(Exception):
    """What was asked is not done, and nothing of it. `slug` is stable: the end of the problem's `type`."""

    slug: ClassVar[str] = "refused"
    status: ClassVar[int] = 422

    @classmethod
    def title(cls) -> str:
        """What is the same of every case."""
        return (cls.__doc__ or cls.slug).partition(";")[0].rstrip(".")


class BadRequest(Refusal):
    """The request is not what this call takes; the detail names the field."""

    slug = "bad-request"
    status = 400


class NoSuchPath(Refusal):
    """There is no such path; the API's OpenAPI document has all of them."""

    slug = "no-such-path"
    status = 404


class WrongMethod(Refusal):
    """The path does not take that method; the header Allow names those it takes."""

    slug = "wrong-method"
    status = 405


class BodyTooLarge(Refusal):
    """The body is too large; the detail says what is taken."""

    slug = "body-too-large"
    status = 413


class UnsupportedMediaType(Refusal):
    """The body is not JSON by its Content-Type."""

    slug = "unsupported-media-type"
    status = 415


class Contended(Refusal):
    """Others changed the same at the same moment, again and again; ask again."""

    slug = "contended"
    status = 503


class IdempotencyConflict(Refusal):
    """The idempotency key was used with other content."""

    slug = "idempotency-conflict"
    status = 409


class Unavailable(Refusal):
    """The service could not reach its store; send it again, under the same Idempotency-Key."""

    slug = "unavailable"
    status = 503


EVERYWHERE: tuple[type[Refusal], ...] = (
    BadRequest,
    NoSuchPath,
    WrongMethod,
    BodyTooLarge,
    UnsupportedMediaType,
    Contended,
    IdempotencyConflict,
    Unavailable,
)
"""What every API may refuse with."""
