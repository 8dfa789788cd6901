"""The third parties that functions call: what was agreed, whether the credentials are there and the circuit is open."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.contracts.calls import CallSettings, credentials_are_set, third_party_of
from offload.runtime.http.breaker import open_until

# Secrets Manager takes 64 KiB (docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html, 2026-11-27).
_LONGEST_SECRET = 65_536


@dataclass(frozen=True)
class ThirdParty:
    """One third party of a stack. `open_until` is None while calls are let through."""

    name: str
    stack: str
    per_second: float | None
    credentials: Literal["none", "set", "missing"]
    open_until: datetime | None
    functions: tuple[str, ...]


def third_parties(deployment: Deployment) -> tuple[ThirdParty, ...]:
    """Those that deployed functions are told of, sorted by name and stack: each stack has its own rate and secret."""
    return tuple(
        ThirdParty(
            name=each.name,
            stack=each.stack,
            per_second=each.settings.per_second,
            credentials=_credentials(deployment, each.settings.secret),
            open_until=open_until(deployment.aws.dynamodb, each.settings.table, each.name),
            functions=each.functions,
        )
        for each in _agreed(deployment)
    )


def set_credentials(
    deployment: Deployment, third_party: str, value: str, *, stack: str | None = None
) -> tuple[str, ...]:
    """Puts a third party's credentials into its secret; returns who reads them.

    Raises Failure where none is wanted, and for a third party that several stacks call without a `stack`.
    """
    agreed = _agreed(deployment)
    found = [each for each in agreed if each.name == third_party]
    if not found:
        names = ", ".join(dict.fromkeys(each.name for each in agreed)) or "there is no Integration"
        raise Failure(f"no function calls '{third_party}': {names}")
    chosen = deployment.chosen(found, stack, f"calls '{third_party}' from")
    settings, functions = chosen.settings, chosen.functions
    if settings.secret is None:
        raise Failure(f"{third_party} needs no credentials: Integration(…, secret=True) gives it a secret")
    if not value or len(value.encode()) > _LONGEST_SECRET:
        raise Failure(f"credentials are 1 to {_LONGEST_SECRET} bytes, and these are {len(value.encode())}")
    deployment.aws.secrets_manager.put_secret_value(SecretId=settings.secret, SecretString=value)
    return functions


@dataclass(frozen=True)
class _Agreed:
    """What a stack has agreed with a third party, and the folders of the functions that call it."""

    name: str
    stack: str
    settings: CallSettings
    functions: tuple[str, ...]


def _agreed(deployment: Deployment) -> list[_Agreed]:
    found: dict[tuple[str, str], CallSettings] = {}
    callers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for function in deployment.functions():
        configuration = deployment.aws.lambda_.get_function_configuration(FunctionName=function.function_name)
        for variable, value in configuration.get("Environment", {}).get("Variables", {}).items():
            if (name := third_party_of(variable)) is not None:
                found[name, function.stack] = msgspec.json.decode(value, type=CallSettings)
                callers[name, function.stack].add(function.folder)
    return [_Agreed(*key, found[key], tuple(sorted(callers[key]))) for key in sorted(found)]


def _credentials(deployment: Deployment, secret: str | None) -> Literal["none", "set", "missing"]:
    if secret is None:
        return "none"
    value = deployment.aws.secrets_manager.get_secret_value(SecretId=secret)["SecretString"]
    return "set" if credentials_are_set(value) else "missing"


def document_of(each: ThirdParty) -> dict[str, object]:
    """As `--json` prints it."""
    return {
        "third_party": each.name,
        "stack": each.stack,
        "per_second": each.per_second,
        "credentials": each.credentials,
        "circuit": "closed" if each.open_until is None else "open",
        "open_until": each.open_until and each.open_until.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "functions": list(each.functions),
    }
