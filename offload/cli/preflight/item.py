"""One line of the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Level = Literal["ok", "warning", "refused"]


@dataclass(frozen=True)
class Untold:
    """A question that AWS did not answer.

    `why` is denied (the caller may not ask), unsupported (this AWS does not know the question) or failed; `action` is
    the permission that the question needs, `says` what AWS said.
    """

    why: Literal["denied", "unsupported", "failed"]
    action: str
    says: str = ""


@dataclass(frozen=True)
class Item:
    """What was looked at (`name`, with which a refusal is accepted), what was found, and what to do about it."""

    level: Level
    name: str
    says: str
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        """As plain values, for JSON."""
        return asdict(self)


def ok(name: str, says: str) -> Item:
    """What is as it should be."""
    return Item("ok", name, says)


def warning(name: str, says: str, fix: str) -> Item:
    """What a deploy survives, and somebody should know."""
    return Item("warning", name, says, fix)


def refused(name: str, says: str, fix: str) -> Item:
    """What a deploy would fail on, or would be sorry for."""
    return Item("refused", name, says, fix)


def not_known(name: str, untold: Untold) -> Item:
    """What could not be looked at, as a warning that names the permission."""
    match untold.why:
        case "denied":
            return warning(name, f"not checked: {untold.action} is denied", f"allow {untold.action} (--policy)")
        case "unsupported":
            return warning(name, f"not checked: no {untold.action} here", "none: this AWS does not answer it")
    return warning(
        name, f"not checked: {untold.action}: {untold.says}", "try again; look at the Region and the network"
    )
