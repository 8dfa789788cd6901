"""The state of the deployed stacks, and whether somebody is told of their alarms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from offload.cli.preflight.assembly import Assembly, Kept, NewStack
from offload.cli.preflight.facts import OldStack
from offload.cli.preflight.item import Item, Untold, not_known, ok, refused, warning

_PENDING = ("PendingConfirmation", "Pending Confirmation")
"""What stands in place of the ARN (sns/latest/api/API_Subscribe.html and the console; read 2026-11-29)."""


def state(new: NewStack, old: OldStack | Untold | None, environment: str) -> Item:
    """What CloudFormation can do with the stack as it is."""
    name = new.name
    if isinstance(old, Untold):
        return not_known("stack", old)
    if old is None or old.status == "REVIEW_IN_PROGRESS":
        return ok("stack", f"{name}: not deployed yet")
    says = f"{name}: {old.status}"
    if old.status.endswith("_IN_PROGRESS"):
        return refused("stack", f"{says}: another deploy is at work", "wait for its end (CloudFormation, Events)")
    if old.status == "ROLLBACK_COMPLETE":
        fix = "look at `orphans` below first: what it kept is not taken up again"
        return warning("stack", f"{says}: its first deploy failed; the deploy deletes it and makes it again", fix)
    if old.status.endswith("_FAILED"):
        command = "rollback" if old.status.startswith("UPDATE") else "destroy"
        fix = f"node_modules/.bin/cdk {command} {name} --context environment={environment}"
        return refused("stack", f"{says}: it can be neither updated nor made", fix)
    return ok("stack", says)


def protection(kept: Kept, assembly: Assembly, deployed: Mapping[str, OldStack | Untold | None]) -> Item:
    """Termination protection, where data is kept."""
    if not kept.keep:
        return ok("protection", "not needed: the environment keeps no data")
    without = [stack.name for stack in assembly.stacks if not stack.termination_protection]
    if without:
        return warning(
            "protection",
            f"{', '.join(without)}: deployed without termination protection although data is kept",
            "set termination_protection on the stack",
        )
    off = [old.name for old in deployed.values() if isinstance(old, OldStack) and not old.protected]
    if off:
        return ok("protection", f"{', '.join(off)}: off, the deploy switches it on")
    return ok("protection", "on")


def address(
    kept: Kept,
    subscriptions: Mapping[str, tuple[Mapping[str, Any], ...] | Untold | None],
    deployed: Mapping[str, OldStack | Untold | None],
) -> Item:
    """The address that alarms go to, and whether its owner has confirmed it; topics are those of deployed stacks."""
    if kept.email is None:
        return ok("address", "none in the environment's file: no alarm is sent")
    for stack in deployed.values():
        unread = stack.resources if isinstance(stack, OldStack) else stack
        if isinstance(unread, Untold):
            return not_known("address", unread)
    own: list[Mapping[str, Any]] = []
    for found in subscriptions.values():
        if isinstance(found, Untold):
            return not_known("address", found)
        own += [each for each in found or () if str(each.get("Endpoint", "")).casefold() == kept.email.casefold()]
    if not own:
        if not subscriptions:
            return ok("address", f"{kept.email}: SNS asks it to confirm after the first deploy")
        return ok("address", f"{kept.email} is new: SNS asks it to confirm after the deploy")
    if any(str(each.get("SubscriptionArn")) in _PENDING for each in own):
        return warning(
            "address",
            f"{kept.email} has not confirmed: no alarm reaches it",
            "open SNS's mail and follow its link; it is valid for two days, then deploy the address again",
        )
    if any(str(each.get("SubscriptionArn")) == "Deleted" for each in own):
        return warning("address", f"{kept.email} has unsubscribed", "subscribe it again (SNS), and confirm")
    return ok("address", f"{kept.email} has confirmed")


def left_over(
    assembly: Assembly, names: Iterable[str] | Untold, environment: str, longer: Iterable[str] = ()
) -> list[Item]:
    """Stacks of this environment that the app no longer has: a deploy leaves them alone.

    `longer` are other environments whose names begin with this one's.
    """
    if isinstance(names, Untold):
        return []
    known = {stack.name for stack in assembly.stacks}
    of_others = tuple(f"offload-{name}-" for name in longer)
    others = sorted(
        name
        for name in names
        if name.startswith(f"offload-{environment}-") and not name.startswith(of_others) and name not in known
    )
    return [
        warning(
            "stack",
            f"{name}: deployed, and not in the app any more",
            f"aws cloudformation delete-stack --stack-name {name}",
        )
        for name in others
    ]
