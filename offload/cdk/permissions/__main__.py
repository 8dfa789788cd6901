"""`python -m offload.cdk.permissions`: every call is allowed, and every permission is used."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from offload.cdk.environment import Environment
from offload.cdk.guardrails.templates import Template, Templates
from offload.cdk.permissions.compare import Report, compare
from offload.cdk.permissions.record import Record
from offload.cdk.templates import assembly_of

# It has every function, lane and integration; what another one allows besides are destinations. A test holds that.
ENVIRONMENT: Final = "staging"
DESTINATIONS: Final = (
    "arn:aws:sqs:eu-west-1:210987654321:partner",
    "arn:aws:events:eu-west-1:210987654321:event-bus/partner",
)
"""A queue and a bus of another account, so that what an environment with destinations allows is compared too."""


def synthesized(environment: Environment) -> Templates:
    """The templates of an environment, without bundling or guarding."""
    with tempfile.TemporaryDirectory() as folder:
        return Templates(
            [
                Template(stack.template_full_path, stack.stack_name, stack.template)
                for stack in assembly_of(environment, Path(folder), validated=False).stacks
            ]
        )


def with_destinations(name: str) -> Environment:
    """An environment, complete, with destinations of another account."""
    environment = Environment.filled_in(name)
    return replace(environment, sending=replace(environment.sending, destinations=DESTINATIONS))


def examined(*records: Record) -> list[Report]:
    """The app's roles beside each of the records of calls, by one synthesis."""
    environment = with_destinations(ENVIRONMENT)
    templates, account = synthesized(environment), environment.aws.account
    return [compare(templates, record, destinations=DESTINATIONS, account=account) for record in records]


def main() -> None:
    """Prints what is wrong, a line each, with exit code 1; else the reasons that stand and a line of numbers."""
    [report] = examined(Record.read())
    if report.faults:
        sys.exit("\n".join(report.faults))
    for reason in report.reasons:
        print(f"permitted, unused: {reason}")
    print(
        f"permissions: {report.functions} functions, {report.calls} recorded calls: each is allowed, and every"
        " permission is used"
    )


if __name__ == "__main__":
    main()
