"""`offload bill`: what an environment costs in a month in which nothing arrives, from its templates."""

from __future__ import annotations

from typing import Annotated

import typer

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import JsonOption, console, print_json


def show(
    environment: Annotated[
        str | None, typer.Argument(metavar="NAME", help="The environment: dev, staging, prod; it need not be deployed.")
    ] = None,
    *,
    write: Annotated[bool, typer.Option("--write", help="Rewrite the figures in README.md and docs/costs.md.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what an environment costs in a month in which nothing arrives; it asks AWS nothing."""
    from offload.cli.costs import documents
    from offload.cli.costs.bill import bill
    from offload.project import PROJECT

    if write == (environment is not None):
        raise Failure(f"name one environment ({', '.join(documents.environments())}), or rewrite documents: --write")
    names = documents.environments() if environment is None else (environment,)
    bills = {name: bill(name, templates) for name, templates in documents.synthesized(names).items()}
    if environment is None:
        for name in documents.DOCUMENTS:
            file = PROJECT / name
            before = file.read_text(encoding="utf-8")
            after = documents.rewritten(before, bills)
            file.write_text(after, encoding="utf-8")
            console().print(f"{name}: {'as it was' if after == before else 'rewritten'}", markup=False)
    elif as_json:
        print_json(bills[environment].document())
    else:
        documents.show(bills[environment], lambda line: console().print(line, markup=False, soft_wrap=True))
