"""What documents say of an idle month: `python -m shop.commands.bill_documents`, which is `make bill`, writes it.

A block is what stands between `<!-- bill: NAME -->` and `<!-- /bill -->`, each alone on its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from offload.cli import terminal
from offload.cli.costs import bill
from offload.cli.costs.bill import LONG_POLL, METERS, POLLERS, POLLERS_WITH_MAXIMUM, Bill
from offload.cli.costs.environments import environments, synthesized
from offload.cli.costs.prices import HOURS
from offload.cli.deployment.failure import Failure
from offload.project import PROJECT

DOCUMENTS: Final = ("README.md", "docs/costs.md")
"""Those that have blocks."""

_BLOCK: Final = re.compile(r"(?<=<!-- bill: )([a-z-]+)( -->\n)(.*?)(?=<!-- /bill -->)", re.DOTALL)
_TEAM: Final = frozenset({"TeamChannel", "Notices", "TeamNotifier"})


def blocks(text: str) -> dict[str, str]:
    """A document's blocks by name."""
    return {match[1]: match[3] for match in _BLOCK.finditer(text)}


def rewritten(text: str, bills: Mapping[str, Bill]) -> str:
    """A document with the blocks that the bills make. Raises Failure for a block that has no such name."""

    def block(match: re.Match[str]) -> str:
        if match[1] not in _BLOCKS:
            raise Failure(f"there is no block 'bill: {match[1]}': {', '.join(_BLOCKS)}")
        return f"{match[1]}{match[2]}{_BLOCKS[match[1]](bills)}\n"

    return _BLOCK.sub(block, text)


def _sentence(bills: Mapping[str, Bill]) -> str:
    dev, prod = bills["dev"], bills["prod"]
    return (
        f"While nothing arrives, `dev` costs {_dollars(dev.listed)} a month at list price and {_dollars(dev.to_pay)} "
        f"after what every account has free,\n`prod` {_dollars(prod.listed)} and {_dollars(prod.to_pay)}: "
        "[what it costs](docs/costs.md)."
    )


def _environments(bills: Mapping[str, Bill]) -> str:
    rows = [(f"`{name}`", _dollars(each.listed), _dollars(each.to_pay)) for name, each in bills.items()]
    return _table(("a month, idle", "list price", "after what is free"), rows)


def _parts(bills: Mapping[str, Bill]) -> str:
    rows = []
    for meter in METERS:
        parts = {name: part for name, each in bills.items() for part in each.parts if part.meter == meter}
        if not parts:
            continue
        cells = [
            f"{part.listed:.2f}, {part.to_pay:.2f}" if (part := parts.get(name)) is not None else "" for name in bills
        ]
        rows.append((meter.name, *cells, _reasons({name: part.reasons for name, part in parts.items()})))
    totals = [f"**{each.listed:.2f}**, **{each.to_pay:.2f}**" for each in bills.values()]
    rows.append(("**in all**", *totals, ""))
    return _table(("dollars: list price, after what is free", *(f"`{name}`" for name in bills), "what uses it"), rows)


def _reasons(of: Mapping[str, tuple[str, ...]]) -> str:
    """What uses a meter: once where it is the same in several environments."""
    same: dict[tuple[str, ...], list[str]] = {}
    for name, reasons in of.items():
        same.setdefault(reasons, []).append(f"`{name}`")
    return "; ".join(f"{', '.join(names)}: {', '.join(reasons)}" for reasons, names in same.items())


def _constructs(bills: Mapping[str, Bill]) -> str:
    dollars = {name: dict(each.constructs) for name, each in bills.items()}
    order = {construct: None for each in reversed(list(bills.values())) for construct, _ in each.constructs}
    rows = [
        (f"`{construct}`", *(f"{found[construct]:.2f}" if construct in found else "" for found in dollars.values()))
        for construct in order
    ]
    return _table(("dollars at list price", *(f"`{name}`" for name in bills)), rows)


def _without(bills: Mapping[str, Bill]) -> str:
    """What `dev` leaves out, and what that would cost at list price."""
    polls = HOURS * 3600 / LONG_POLL * bill.SQS.price
    team = sum(dollars for name, dollars in bills["prod"].constructs if name in _TEAM)
    alarms = sum(part.listed for part in bills["prod"].parts if part.meter == bill.ALARMS)
    rows = [
        (
            '`[queues] concurrency = "any"`',
            f"{POLLERS_WITH_MAXIMUM - POLLERS} of {POLLERS_WITH_MAXIMUM} pollers: a queue costs "
            f"{_dollars(POLLERS * polls)} in place of {_dollars(POLLERS_WITH_MAXIMUM * polls)}",
            "a full queue may take all the concurrency that the account has; the guardrail `unbounded-concurrency` is "
            "acknowledged with that reason",
        ),
        (
            '`[queues] lanes = "one"`',
            f"a queue for each further lane, {_dollars(POLLERS * polls)} each",
            "a job of high priority, and an endpoint that is well, wait in the same queue as the others",
        ),
        (
            '`[integrations] unused = ["slack"]`',
            f"a secret, a queue, a sweeper and their alarms, {_dollars(team)} in `prod`",
            "the team is told nothing: `TeamNotifier` is left out",
        ),
        (
            "no `[alarms] email`",
            f"the alarms, {_dollars(alarms)} in `prod`",
            "there are none, for nobody would be told",
        ),
    ]
    return _table(("in `environments/dev.toml`", "saves, at list price", "what that means"), rows)


def _nothing(bills: Mapping[str, Bill]) -> str:
    reasons = {kind: reason for each in bills.values() for kind, _, reason in each.nothing}
    return _table(
        ("costs nothing while nothing arrives", "because"),
        [(f"`{kind.removeprefix('AWS::')}`", reason) for kind, reason in sorted(reasons.items())],
    )


_BLOCKS: Final[Mapping[str, Callable[[Mapping[str, Bill]], str]]] = {
    "sentence": _sentence,
    "environments": _environments,
    "parts": _parts,
    "constructs": _constructs,
    "without": _without,
    "nothing": _nothing,
}


def _table(heading: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (heading, ("---",) * len(heading), *rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _dollars(amount: float) -> str:
    return f"${amount:.2f}"


def main() -> None:
    """Rewrites the documents, and says which were."""
    bills = {name: bill.bill(name, templates) for name, templates in synthesized(environments()).items()}
    for name in DOCUMENTS:
        file = PROJECT / name
        before = file.read_text(encoding="utf-8")
        after = rewritten(before, bills)
        file.write_text(after, encoding="utf-8")
        terminal.line(f"{name}: {'as it was' if after == before else 'rewritten'}")


if __name__ == "__main__":
    main()
