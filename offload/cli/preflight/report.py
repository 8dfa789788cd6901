"""The whole report: what is asked, what is decided, and how it is printed."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.deployment.failure import Failure
from offload.cli.preflight import account, changes, quotas, region, stacks
from offload.cli.preflight.assembly import Assembly, Kept, of_file, read, synthesize
from offload.cli.preflight.calls import Reader
from offload.cli.preflight.facts import Facts, Identity, OldStack, gather, identity
from offload.cli.preflight.item import Item, Untold, refused

NEVER_ACCEPTED = frozenset({"account", "region", "templates", "bootstrap"})
"""Refusals that a deploy cannot get past, or must not."""

_WIDTH = 80  # columns
_LEVEL = 8
_NAME = 13


def run(environment: str, *, given: Path | None = None, accepted: Collection[str] = ()) -> tuple[list[Item], Aws]:
    """The report's lines, and the services that were asked. `given` is an assembly to take in place of a synthesis.

    Raises Failure for an environment without a file, and when AWS cannot be asked at all: no credentials, no Region.
    """
    kept = of_file(environment)
    aws = _aws(environment)
    reader = Reader(aws)
    who = identity(reader)
    if isinstance(who, Untold):
        raise Failure(f"AWS does not say whose credentials these are ({who.action} {who.why}: {who.says})")
    first = [account.account(kept, who.account, who.caller), account.region(kept, reader.region)]
    if any(item.level == "refused" for item in first):
        # Of another account's stacks and quotas nothing follows.
        return first, aws
    try:
        assembly = _assembly(environment, given)
    except Failure as failure:
        lines = [refused("templates", line, "as it says") for line in str(failure).splitlines()]
        return first + lines, aws
    return first + [accept(item, accepted) for item in examine(reader, who, assembly, kept)], aws


def accept(item: Item, accepted: Collection[str]) -> Item:
    """A refusal as a warning, where its name was accepted."""
    if item.level == "refused" and item.name in accepted and item.name not in NEVER_ACCEPTED:
        return replace(item, level="warning", fix=f"accepted by --accept {item.name}")
    return item


def judge(kept: Kept, assembly: Assembly, facts: Facts) -> list[Item]:
    """Everything that is decided by the templates and the answers, in the order of the report."""
    used = assembly.types()
    new = [stack for stack in assembly.stacks if not isinstance(facts.stacks.get(stack.name), OldStack | Untold)]
    names = changes.physical_names(assembly, facts.account, facts.region)
    return [
        *region.types(used, facts.schemas, facts.region),
        region.durable(used, facts.schemas, facts.durable, facts.region),
        account.bootstrap(assembly.bootstrap or {}, facts.bootstrap, kept.environment),
        quotas.stacks(len(new), facts.stack_names, facts.limits),
        *quotas.resources(assembly),
        *quotas.concurrency(assembly, facts.stacks, facts.concurrency),
        quotas.log_policies(quotas.access_log_groups(assembly, facts.stacks), facts.log_policies),
        quotas.buses(assembly, facts.stacks, facts.buses),
        *(stacks.state(stack, facts.stacks.get(stack.name), kept.environment) for stack in assembly.stacks),
        *stacks.left_over(assembly, facts.stack_names, kept.environment, kept.others),
        stacks.protection(kept, assembly, facts.stacks),
        stacks.address(kept, facts.subscriptions, facts.stacks),
        *_changes(kept, assembly, facts),
        *changes.taken(names, facts),
        changes.orphans(facts, kept.environment),
    ]


def lines(items: Iterable[Item]) -> list[str]:
    """The report as text of at most 80 columns where its words allow: level, name, what was found; below it the fix."""
    printed: list[str] = []
    for item in items:
        indent = " " * (_LEVEL + _NAME + 2)
        head = f"{item.level:<{_LEVEL}} {item.name:<{_NAME}} "
        printed += _wrapped(head + item.says, indent)
        if item.fix and item.level != "ok":
            printed += _wrapped(f"{indent}fix: {item.fix}", indent + "     ")
    return printed


def summary(environment: str, items: Iterable[Item]) -> str:
    """The last line: how many refusals and warnings there are."""
    levels = [item.level for item in items]
    bad, doubtful = levels.count("refused"), levels.count("warning")
    verdict = "do not deploy" if bad else "ready to deploy"
    return f"{environment}: {verdict}: {bad} refused, {doubtful} warnings, {levels.count('ok')} ok"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def _aws(environment: str) -> Aws:
    """The shell's AWS as it is: what else refuses the wrong account is a line of the report here."""
    return Aws.of(environment) if environment == LOCAL else Aws(environment)


def _assembly(environment: str, given: Path | None) -> Assembly:
    if given is not None:
        return read(given, environment)
    with tempfile.TemporaryDirectory() as folder:
        synthesize(environment, Path(folder))
        return read(Path(folder), environment)


def examine(reader: Reader, who: Identity, assembly: Assembly, kept: Kept) -> list[Item]:
    """Asks AWS and decides: the report's lines about one assembly in one account and Region."""
    names = changes.physical_names(assembly, who.account, reader.region)
    facts = gather(reader, who, assembly, kept.environment, {kind: frozenset(of) for kind, of in names.items()})
    return judge(kept, assembly, facts)


def _changes(kept: Kept, assembly: Assembly, facts: Facts) -> list[Item]:
    found: list[changes.Change] = []
    first = []
    deployed = False
    for stack in assembly.stacks:
        old = facts.stacks.get(stack.name)
        if old is None:
            first.append(stack)
        elif isinstance(old, OldStack):
            deployed = True
            found += changes.compare(stack, old, facts.schemas)
    unread = [old.template for old in facts.stacks.values() if isinstance(old, OldStack)]
    untold = next((each for each in (*unread, *facts.schemas.values()) if isinstance(each, Untold)), None)
    items = changes.judge(kept, found, untold) if deployed else []
    adds = changes.first_deploy(first)
    return [*items, adds] if adds else items
