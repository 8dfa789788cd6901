"""The `offload` command."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from offload.operate import audit_commands, bill_commands, lifecycle_commands, options, receiver_commands, terminal
from offload.operate.failure import Failure
from offload.operate.preflight.commands import preflight

SUB_COMMANDS: dict[str, str] = {
    "events": "offload.operate.events_commands",
    "dead-letters": "offload.operate.dead_letter_commands",
    "outbox": "offload.operate.outbox_commands",
    "jobs": "offload.operate.jobs_commands",
    "integrations": "offload.operate.integrations_commands",
    "webhooks": "offload.operate.webhooks_commands",
    "subscriptions": "offload.operate.subscriptions_commands",
    "deliveries": "offload.operate.deliveries_commands",
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
    from offload.operate.catalogue import catalogue

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
    from offload.operate.catalogue import catalogue
    from offload.operate.embedded import state_folder
    from offload.operate.embedded.process import EmbeddedAws
    from offload.operate.embedded.up import bring_up
    from offload.operate.progress import Steps

    steps = Steps(terminal.console())
    deployment = bring_up(EmbeddedAws(state_folder()), steps=steps)
    if demo and (named := catalogue().demo):
        module, _, function = named.partition(":")
        getattr(importlib.import_module(module), function)(deployment, steps)


@app.command()
def down() -> None:
    """Stop the embedded AWS and its workers; what it holds is there again after the next `up`."""
    from offload.operate.embedded import state_folder
    from offload.operate.embedded.process import EmbeddedAws

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
    from offload.operate import status as statuses
    from offload.operate.resources import Deployment

    found = statuses.status(Deployment.of(environment))
    if as_json:
        terminal.print_json(found)
    else:
        statuses.show(found, terminal.console())


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
    from offload.operate import logs as log_lines
    from offload.operate.resources import Deployment

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
