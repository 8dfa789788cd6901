"""`offload integrations`: the third parties that functions call, and their credentials."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from offload.cli.deployment.options import (
    EnvironmentOption,
    JsonOption,
    StackOption,
    console,
    print_columns,
    print_json,
    read_text,
    utc,
)

app = typer.Typer(help="Third parties that functions call: their rates, credentials and circuits.")


@app.command("list")
def list_them(environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Show each third party: its rate, whether its credentials are set, whether calls are let through, who calls."""
    from offload.cli.deployment.resources import Deployment
    from offload.cli.integrations.integrations import document_of, third_parties

    found = third_parties(Deployment.of(environment))
    if as_json:
        print_json({"third_parties": [document_of(each) for each in found]})
        return
    if not found:
        console().print("no third parties: an Integration in a stack makes one")
        return
    rows = [("third party", "a second", "credentials", "circuit", "called by")]
    for each in found:
        rows.append(
            (
                each.name,
                "any" if each.per_second is None else f"{each.per_second:g}",
                each.credentials,
                _circuit(each.open_until),
                ", ".join(each.functions),
            )
        )
    warnings = [None, *("red" if each.credentials == "missing" or each.open_until else None for each in found)]
    stacks = [each.stack for each in found]
    print_columns(rows, warnings, stacks=stacks if len(set(stacks)) > 1 else None)


def _circuit(open_until: datetime | None) -> str:
    if open_until is None:
        return "closed"
    return f"open until {utc(open_until)}" if open_until > datetime.now(UTC) else "open: the next call tries it"


@app.command()
def credentials(
    third_party: Annotated[str, typer.Argument(metavar="THIRD-PARTY", help="Its name in `offload integrations list`.")],
    file: Annotated[
        str, typer.Option("--file", metavar="FILE|-", help="What the third party gave out, in a file or on stdin.")
    ],
    stack: StackOption = None,
    environment: EnvironmentOption = "local",
) -> None:
    """Put a third party's credentials (a token, a webhook's URL) into its secret, in place of those there were."""
    from offload.cli.deployment.resources import Deployment
    from offload.cli.integrations.integrations import set_credentials

    value = read_text(file, "--file").rstrip("\r\n")
    functions = set_credentials(Deployment.of(environment), third_party, value, stack=stack)
    console().print(
        f"the credentials of {third_party} are set: {', '.join(functions)} read them within 5 minutes", markup=False
    )
