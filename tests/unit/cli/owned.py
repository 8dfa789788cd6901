"""An environment that belongs to an account and a Region, and the commands that are run in another account."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from offload.cli.deployment import aws
from offload.cli.deployment.aws import shell_settings
from offload.cli.deployment.failure import Failure
from offload.cli.local.process import Instance
from offload.cli.main import app

OWN, FOREIGN = "111122223333", "999988887777"
REGION = "eu-west-1"
OWNED = f'[aws]\naccount = "{OWN}"\nregion = "{REGION}"\n'


def commands() -> dict[tuple[str, ...], Any]:
    """Every command that takes an environment: the framework's, and those of the app that commands find."""
    return dict(_below(typer.main.get_command(app)))


def _below(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    import click

    if hasattr(command, "list_commands"):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from _below(command.get_command(context, name), (*path, name))
    elif any("--environment" in parameter.opts for parameter in command.params):
        yield path, command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The environments: `owned` belongs to an account and a Region, `free` to none."""
    (tmp_path / "owned.toml").write_text(OWNED)
    (tmp_path / "free.toml").write_text("")
    monkeypatch.setattr(aws, "ENVIRONMENTS", tmp_path)
    return tmp_path


@pytest.fixture
def shell(emulator: Instance, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Gives the shell the credentials of an account, and a Region."""

    def become(account: str, region: str | None) -> None:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        for name, value in shell_settings(emulator, account, region or "").items():
            monkeypatch.setenv(name, value)
        if region is None:
            monkeypatch.delenv("AWS_REGION")
            monkeypatch.delenv("AWS_DEFAULT_REGION")

    return become


def refuse(arguments: list[str]) -> None:
    """The command refuses the shell's account, in one line."""
    ended = CliRunner().invoke(app, arguments)
    assert isinstance(ended.exception, Failure), (ended.output, ended.exception)
    assert str(ended.exception).startswith(f"environment owned belongs to account {OWN}")
    assert len(str(ended.exception).splitlines()) == 1
