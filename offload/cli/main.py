"""The `offload` command."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from offload.cli import terminal
from offload.cli.audit import commands as audit_commands
from offload.cli.costs import commands as bill_commands
from offload.cli.deployment import connect as connecting
from offload.cli.deployment import options
from offload.cli.deployment.failure import Failure
from offload.cli.lifecycle import commands as lifecycle_commands
from offload.cli.new import commands as new_commands
from offload.cli.preflight.commands import preflight
from offload.cli.webhooks_out import receiver_commands

SUB_COMMANDS: dict[str, str] = {
    "new": "offload.cli.new.commands",
    "events": "offload.cli.events.commands",
    "dead-letters": "offload.cli.events.dead_letter_commands",
    "outbox": "offload.cli.events.outbox_commands",
    "jobs": "offload.cli.jobs.commands",
    "integrations": "offload.cli.integrations.commands",
    "webhooks": "offload.cli.webhooks_in.commands",
    "subscriptions": "offload.cli.webhooks_out.subscription_commands",
    "deliveries": "offload.cli.webhooks_out.delivery_commands",
}
"""Groups of commands: the name, and the module whose `app` is its Typer application, imported when it is used."""


class _Commands(TyperGroup):
    """The commands below, the groups of SUB_COMMANDS, and those of the app's catalogue."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *_of_the_app(), *SUB_COMMANDS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if (own := super().get_command(ctx, cmd_name)) is not None:
            return own
        # The catalogue is read for what the framework does not have alone.
        module = SUB_COMMANDS.get(cmd_name) or _of_the_app().get(cmd_name)
        if module is None:
            return None
        group = typer.main.get_group(importlib.import_module(module).app)
        group.name = cmd_name
        return group


def _of_the_app() -> Mapping[str, str]:
    from offload.cli.catalogue import catalogue

    return catalogue().commands


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Events, background jobs and what became of them: on this machine, or in an environment on AWS.",
)

# AWS's packages take half a second to import: commands import what they need when they run.


@app.command()
def up(
    *,
    demo: Annotated[bool, typer.Option(help="Run the app's demo afterwards.")] = True,
) -> None:
    """Start the embedded AWS, deploy `local` to it, and run the app's demo."""
    from offload.cli.catalogue import catalogue
    from offload.cli.deployment.progress import Steps
    from offload.cli.local.place import state_folder
    from offload.cli.local.process import EmbeddedAws
    from offload.cli.local.up import bring_up

    steps = Steps(terminal.console())
    deployment = bring_up(EmbeddedAws(state_folder()), steps=steps)
    if demo and (named := catalogue().demo):
        module, _, function = named.partition(":")
        getattr(importlib.import_module(module), function)(deployment, steps)


@app.command()
def down() -> None:
    """Stop the embedded AWS and its workers; what it holds is there again after the next `up`."""
    from offload.cli.local.place import state_folder
    from offload.cli.local.process import EmbeddedAws

    embedded = EmbeddedAws(state_folder())
    if not embedded.root.exists():
        terminal.line("the embedded AWS was not running")
        return
    with embedded.alone():
        stopped = embedded.stop()
    if stopped is None:
        terminal.line("the embedded AWS was not running")
    elif stopped.clean:
        terminal.line(
            f"the embedded AWS has stopped after {stopped.seconds:.1f} s; the next `up` finds its state again"
        )
    else:
        terminal.line(f"the embedded AWS was killed after {stopped.seconds:.1f} s; the next `up` starts empty")


@app.command()
def status(*, environment: options.EnvironmentOption = "local", as_json: options.JsonOption = False) -> None:
    """Show what is deployed, and how many events wait or are dead letters."""
    from offload.cli.deployment import status as statuses
    from offload.cli.deployment.resources import Deployment

    found = statuses.status(Deployment.of(environment))
    if as_json:
        terminal.print_json(found)
    else:
        statuses.show(found, terminal.console())


@app.command()
def connect(
    name: Annotated[
        str | None, typer.Argument(metavar="ENV", help="The environment; the same as --environment.")
    ] = None,
    *,
    form: Annotated[
        connecting.Format, typer.Option("--format", help="`export` lines for a POSIX shell, or a JSON object.")
    ] = connecting.Format.ENV,
    stack: options.StackOption = None,
    environment: options.EnvironmentOption = "local",
) -> None:
    """Print the environment variables by which the monolith reaches what is deployed."""
    from offload.cli.deployment.resources import Deployment

    if name and environment not in (name, "local"):
        raise typer.BadParameter(f"{name} and {environment}: name one environment")
    connecting.show(connecting.variables(Deployment.of(name or environment), stack=stack), form)


@app.command()
def logs(
    name: Annotated[str, typer.Argument(help="The function: its construct's name, or its folder in lambdas/.")],
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new lines until Ctrl-C.")] = False,
    since: Annotated[str, typer.Option(help="How far back to begin: 90s, 10m, 2h, 1d.")] = "15m",
    environment: options.EnvironmentOption = "local",
    as_json: Annotated[bool, typer.Option("--json", help="Print each line as it was logged, as JSON.")] = False,
) -> None:
    """Show a function's log lines; a fault with its traceback."""
    from offload.cli.deployment import logs as log_lines
    from offload.cli.deployment.resources import Deployment

    back = log_lines.duration(since)
    log_lines.show(Deployment.of(environment), name, back, follow=follow, as_json=as_json)


app.command("audit")(audit_commands.show)
app.command("bill")(bill_commands.show)
app.command("target")(lifecycle_commands.target)
app.command("before-deploy")(lifecycle_commands.before_deploy)
app.command("protect")(lifecycle_commands.protect)
app.command("destroy")(lifecycle_commands.destroy)
app.command("receiver")(receiver_commands.receiver)
app.command("preflight")(preflight)
app.command("remove")(new_commands.remove)


def main() -> None:
    """Runs the command line: exit code 0, 1 with one readable line for what goes wrong, 2 for wrong usage."""
    with terminal.guarded():
        try:
            app()
        except Failure as failure:
            _end(str(failure))
        except Exception as error:  # noqa: BLE001 - printed whole
            said = what_aws_says(error)
            if said is None:
                # Here, not by Python: its text may be a stranger's, and the guard ends with this function.
                traceback.print_exception(error)
                sys.exit(1)
            _end(said)


def what_aws_says(error: Exception) -> str | None:
    """What AWS or the way to it says, for people; None for any other error."""
    exceptions = sys.modules.get("botocore.exceptions")
    if exceptions is None:
        return None
    if isinstance(error, exceptions.NoCredentialsError):
        return "no AWS credentials: log in, or set AWS_PROFILE (aws sts get-caller-identity must work)"
    if isinstance(error, exceptions.ClientError):
        return f"AWS refuses: {error}"
    if isinstance(error, exceptions.BotoCoreError):
        return f"AWS cannot be reached or used: {error}"
    return None


def _end(text: str) -> None:
    terminal.block(f"offload: {text}", stderr=True)
    sys.exit(1)
