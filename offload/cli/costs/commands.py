"""`offload bill`: what an environment costs in a month in which nothing arrives, from its templates."""

from __future__ import annotations

from typing import Annotated

import typer

from offload.cli.deployment.options import JsonOption, console, print_json


def show(
    environment: Annotated[
        str, typer.Argument(metavar="NAME", help="The environment: dev, staging, prod; it need not be deployed.")
    ],
    *,
    as_json: JsonOption = False,
) -> None:
    """Show what an environment costs in a month in which nothing arrives; it asks AWS nothing."""
    from offload.cli.costs import environments
    from offload.cli.costs.bill import bill

    found = bill(environment, environments.synthesized([environment])[environment])
    if as_json:
        print_json(found.document())
    else:
        environments.show(found, lambda line: console().print(line, markup=False, soft_wrap=True))
