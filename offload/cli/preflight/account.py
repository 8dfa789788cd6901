"""Whether this is the account and Region of the environment, and whether it is ready for the CDK."""

from __future__ import annotations

from collections.abc import Mapping

from offload.cli.preflight.assembly import Kept
from offload.cli.preflight.item import Item, Untold, not_known, ok, refused


def account(kept: Kept, found: str, caller: str) -> Item:
    """The credentials' account against the environment's file."""
    file = f"environments/{kept.environment}.toml"
    who = caller.rpartition(":")[2]
    if kept.account is None:
        if kept.keep:
            return refused(
                "account", f"{file} keeps data and names no account", f'add [aws] account = "{found}" if this is it'
            )
        return ok("account", f"{found} as {who}; {file} names none")
    if kept.account != found:
        return refused(
            "account",
            f"the credentials are of account {found} ({who}); {file} belongs to {kept.account}",
            f"use credentials of {kept.account} (AWS_PROFILE)",
        )
    return ok("account", f"{found} as {who}, the one in {file}")


def region(kept: Kept, found: str) -> Item:
    """The shell's Region against the environment's file."""
    file = f"environments/{kept.environment}.toml"
    if kept.region is None:
        if kept.keep:
            return refused("region", f"{file} keeps data and names no Region", f'add [aws] region = "{found}"')
        return ok("region", f"{found}; {file} names none")
    if kept.region != found:
        return refused(
            "region", f"the shell says {found}; {file} belongs to {kept.region}", f"export AWS_REGION={kept.region}"
        )
    return ok("region", f"{found}, the one in {file}")


def bootstrap(needed: Mapping[str, int], found: Mapping[str, str | Untold | None], environment: str) -> Item:
    """The CDK's bootstrap: the version that the assembly needs against the one that the account has."""
    fix = f"make bootstrap ENV={environment}"
    versions = []
    for parameter, version in needed.items():
        has = found.get(parameter)
        if isinstance(has, Untold):
            return not_known("bootstrap", has)
        if has is None:
            return refused("bootstrap", f"this account and Region are not bootstrapped: no {parameter}", fix)
        if not has.isdecimal() or int(has) < version:
            return refused("bootstrap", f"version {has}; the assembly needs {version}", fix)
        versions.append(f"version {has}, {version} needed")
    return ok("bootstrap", "; ".join(versions) or "not needed")
