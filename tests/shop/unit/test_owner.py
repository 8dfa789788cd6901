"""The shop's commands are held to the account of an environment as the framework's are."""

from __future__ import annotations

from typing import Any

import pytest

from shop.catalogue import CATALOGUE
from shop.orders import SHIPPED_DAY
from tests.shop.rates_files import DAILY
from tests.unit.cli.owned import FOREIGN, REGION, commands, folder, refuse, shell

__all__ = ["folder", "shell"]

ARGUMENTS: dict[tuple[str, ...], list[str]] = {
    ("orders", "publish"): [str(SHIPPED_DAY)],
    ("rates", "import"): [str(DAILY)],
}
"""What a command wants besides the environment, where one `x` an argument does not do."""

COMMANDS = {path: command for path, command in commands().items() if path[0] in CATALOGUE.commands}


def test_the_commands_that_take_an_environment_are_found() -> None:
    assert {("ledger", "show"), ("change-log", "show"), ("rates", "show")} | ARGUMENTS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_refuses_another_account_in_one_line(path: tuple[str, ...], shell: Any) -> None:
    shell(FOREIGN, REGION)
    required = [parameter for parameter in COMMANDS[path].params if parameter.required]
    refuse([*path, *ARGUMENTS.get(path, ["x"] * len(required)), "--environment", "owned"])
