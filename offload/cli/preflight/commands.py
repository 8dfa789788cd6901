"""`offload preflight`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from offload.cli import terminal
from offload.cli.deployment.options import JsonOption, print_json


def preflight(
    environment: Annotated[str, typer.Argument(help="The environment that is about to be deployed.")],
    *,
    assembly: Annotated[
        Path | None, typer.Option(help="A synthesized assembly (cdk.out); without it the app is synthesized.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(help="Let a refusal of this name pass as a warning; may be repeated.")
    ] = None,
    policy: Annotated[bool, typer.Option("--policy", help="Print the IAM policy that this command needs.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look for what would go wrong with a deploy: it only reads. Exit code 1 when something is refused."""
    from offload.cli.preflight import calls, report
    from offload.cli.preflight.assembly import of_file

    if policy:
        kept = of_file(environment)
        print_json(calls.policy(environment, account=kept.account, region=kept.region))
        return
    items, aws = report.run(environment, given=assembly, accepted=accept or ())
    if as_json:
        refusals = sum(item.level == "refused" for item in items)
        print_json(
            {
                "environment": environment,
                "region": aws.session.region_name,
                "refused": refusals,
                "items": [item.as_dict() for item in items],
            }
        )
    else:
        for line in (*report.lines(items), report.summary(environment, items)):
            terminal.line(line)
    if any(item.level == "refused" for item in items):
        raise typer.Exit(1)
