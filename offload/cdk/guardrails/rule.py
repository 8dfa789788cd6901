"""What a guardrail is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from offload.cdk.guardrails.templates import Resource, Templates

PLUGIN = "offload"
"""The validation plugin's name, with which the ids that people acknowledge begin: `offload::queue-visibility`."""


@dataclass(frozen=True)
class Finding:
    """One place where a rule is broken.

    `says` is what is wrong, with the figures; `fix` what to do; `location` the property within the resource;
    `about` tells findings on one resource apart, so that one can be acknowledged without the others.
    """

    resource: Resource
    says: str
    fix: str
    location: str
    about: str | None = None


@dataclass(frozen=True)
class Rule:
    """One guardrail: an id, what it refuses in a line for docs/guardrails.md, and the search for it."""

    id: str
    refuses: str
    findings: Callable[[Templates], Iterator[Finding]]
