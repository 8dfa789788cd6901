"""The commands of an environment's life on AWS that `make bootstrap`, `diff`, `deploy` and `destroy` run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from offload.cli import terminal
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import console, print_columns

if TYPE_CHECKING:
    from offload.cli.lifecycle.destroy import Holding, Plan

NameArgument = Annotated[str, typer.Argument(metavar="ENVIRONMENT", help="The environment: dev, staging, prod …")]


def target(environment: NameArgument) -> None:
    """Print where an environment is deployed (aws://ACCOUNT/REGION); refuse the shell's AWS where it is another."""
    from offload.cli.deployment.aws import LOCAL, Aws, identity

    if environment == LOCAL:
        raise Failure("environment local is the embedded AWS on this machine: `make up` deploys it")
    # Not Aws.of, which would ask AWS a first time.
    terminal.line(str(identity(Aws(environment))))


def before_deploy(environment: NameArgument) -> None:
    """Let the CDK delete the stacks whose first deploy failed: they are protected, and nothing is in them."""
    from offload.cli.deployment.aws import Aws
    from offload.cli.lifecycle.protection import release_failed

    for name in release_failed(Aws.of(environment)):
        terminal.line(f"{name}: its first deploy failed and left nothing; it is made again")


def protect(environment: NameArgument) -> None:
    """Protect the tables that an environment keeps against deletion by anybody."""
    from offload.cli.deployment.resources import Deployment
    from offload.cli.lifecycle.protection import protect_tables

    for name in protect_tables(Deployment.of(environment)):
        terminal.line(f"{name}: protected against deletion")


def destroy(
    environment: NameArgument,
    *,
    yes: Annotated[
        str, typer.Option(metavar="ENVIRONMENT", help="The environment's name once more, in place of the question.")
    ] = "",
    kept: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Where to write what a restore needs of what stays; else kept/ENVIRONMENT."
        ),
    ] = None,
) -> None:
    """Delete an environment's stacks, after a look at what goes and what stays, and its name typed."""
    from offload.cli.deployment.aws import identity
    from offload.cli.deployment.progress import Steps
    from offload.cli.deployment.resources import Deployment
    from offload.cli.lifecycle import destroy as end

    deployment = Deployment.of(environment)
    where = identity(deployment.aws) if deployment.aws.instance is None else "the embedded AWS"
    plan = end.plan(deployment)
    _show(plan, environment, str(where))
    answer = yes or terminal.ask(f"Type the environment's name to delete this ({environment})")
    if answer != environment:
        raise Failure(f"nothing is deleted: '{answer}' is not '{environment}'")
    # First: when the deletion is broken off, what stays is known.
    written = end.write_mappings(plan, kept or Path("kept") / environment)
    end.destroy(deployment, plan, Steps(console()))
    if not plan.staying:
        terminal.line(f"environment {environment} is gone, with all that it held")
        return
    terminal.line(f"environment {environment} is gone; this was kept, and is paid for until you delete it:")
    print_columns([(each.kind, each.path, each.physical_id) for each in plan.staying])
    if written:
        terminal.line("To bring it back, keep these and read docs/restore.md: " + ", ".join(map(str, written)))


def _show(plan: Plan, environment: str, where: str) -> None:
    screen = console()
    names = ", ".join(stack.name for stack in plan.stacks)
    screen.print(f"environment {environment} in {where}: {names}", markup=False, soft_wrap=True)
    others = ", ".join(f"{count} {kind}" for kind, count in plan.others.items())
    screen.print(f"Goes, and is made again by a deploy: {others or 'nothing'}", markup=False, soft_wrap=True)
    for title, holdings in (("Goes with what it holds", plan.going), ("Stays", plan.staying)):
        if holdings:
            screen.print(f"{title}: {_in_numbers(holdings)}", markup=False, soft_wrap=True)
            rows = [(f"  {each.kind}", each.path, each.holds(), each.physical_id) for each in holdings if each.counted]
            if rows:
                print_columns(rows)


def _in_numbers(holdings: tuple[Holding, ...]) -> str:
    kinds = sorted({each.kind for each in holdings})
    return ", ".join(
        f"{len(of)} {kind}" + (f" ({empty} empty)" if (empty := sum(1 for each in of if not each.amount)) else "")
        for kind in kinds
        if (of := [each for each in holdings if each.kind == kind])
    )
