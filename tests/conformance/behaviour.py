"""One behaviour of AWS that the code relies on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from tests.conformance.oracle import Oracle

Where: TypeAlias = Literal["embedded", "moto", "account"]
"""The embedded AWS, moto's server, an AWS account."""

Observe: TypeAlias = Callable[["Oracle"], Any]


@dataclass(frozen=True)
class Differs:
    """What an oracle does otherwise: what is observed there in place of AWS's answer, and what follows for us.

    It is asserted: the day the oracle changes, the test fails and says so.
    """

    observed: Any
    why: str


@dataclass(frozen=True)
class Behaviour:
    """One behaviour: what AWS says it does, where that is written and when it was read, and who relies on it.

    `observe` tries it and returns what came of it; `expected` is what comes of it on AWS.
    """

    service: str
    name: str
    says: str
    document: str
    read: str
    relied: tuple[str, ...]
    expected: Any
    observe: Observe
    on: tuple[Where, ...]
    differs: Mapping[Where, Differs] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """How a test names it."""
        return f"{self.service}-{self.name}"


BEHAVIOURS: dict[str, Behaviour] = {}
"""Every declared one, by id, in the order of declaration."""


def behaviour(
    says: str,
    *,
    document: str,
    read: str,
    relied: tuple[str, ...],
    expected: Any,
    on: tuple[Where, ...] = ("embedded", "account"),
    differs: Mapping[Where, Differs] | None = None,
) -> Callable[[Observe], Observe]:
    """Declares what a function observes. `document` is a page of docs.aws.amazon.com, `read` the day it was read."""

    def declare(observe: Observe) -> Observe:
        service = observe.__module__.rpartition(".")[2]
        made = Behaviour(
            service,
            observe.__name__,
            says,
            f"https://docs.aws.amazon.com/{document}",
            read,
            relied,
            expected,
            observe,
            on,
            differs or {},
        )
        assert made.id not in BEHAVIOURS, made.id
        BEHAVIOURS[made.id] = made
        return observe

    return declare
