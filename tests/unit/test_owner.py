"""An environment that names its account and Region is operated on there and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from offload.cli.deployment import aws
from offload.cli.deployment.aws import Aws, Identity, identity, shell_settings
from offload.cli.deployment.failure import Failure
from offload.cli.local.process import Instance
from offload.cli.main import app
from tests.rates_files import DAILY

OWN, FOREIGN = "111122223333", "999988887777"
REGION = "eu-west-1"
OWNED = f'[aws]\naccount = "{OWN}"\nregion = "{REGION}"\n'

ORDERS = Path(__file__).resolve().parents[2] / "shop" / "data" / "2010-12-01.csv.gz"
STOCK = '{"product": "1", "units": 7, "low_below": 9, "cause": "order.placed:1", "caused_at": "2010-12-01T08:26:00Z"}'

ARGUMENTS: dict[tuple[str, ...], list[str]] = {
    ("events", "publish"): ["stock.low", "--data", "{stock}"],
    ("integrations", "credentials"): ["slack", "--file", "{stock}"],
    ("orders", "publish"): [str(ORDERS)],
    ("outbox", "relay"): ["--database-url", "sqlite://"],
    ("rates", "import"): [str(DAILY)],
    ("subscriptions", "create"): ["--url", "https://example.com", "--type", "order.placed"],
    ("subscriptions", "change"): ["sub_1", "--description", "x"],
    ("dead-letters", "drop"): ["--because", "x", "--consumer", "SalesLedger", "--yes"],
    ("deliveries", "recover"): ["--since", "2026-11-01T00:00+00:00", "--failed"],
    ("webhooks", "missing"): ["github", "--deliveries", "{stock}"],
    ("jobs", "submit"): ["sales_report"],
    ("jobs", "decide"): ["job-1", "done"],
    ("jobs", "answer"): ["job-1", "yes"],
}
"""What a command wants besides the environment, where one `x` an argument does not do."""


def commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of the command line that takes an environment."""
    import click

    if hasattr(command, "list_commands"):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from commands(command.get_command(context, name), (*path, name))
    elif any("--environment" in parameter.opts for parameter in command.params):
        yield path, command


COMMANDS = dict(commands(typer.main.get_command(app)))
BY_NAME = ("target", "before-deploy", "protect", "destroy", "connect")
"""Commands that are given the environment as their argument."""


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


def test_in_its_own_account_and_region_an_environment_is_operated_on(shell: Any) -> None:
    shell(OWN, REGION)
    assert identity(Aws.of("owned")) == Identity(OWN, REGION)
    assert str(Identity(OWN, REGION)) == f"aws://{OWN}/{REGION}"


def test_a_shell_without_a_region_gets_the_environments(shell: Any) -> None:
    shell(OWN, None)
    assert identity(Aws.of("owned")) == Identity(OWN, REGION)


def test_an_environment_of_no_account_is_wherever_the_shell_is(shell: Any) -> None:
    shell(FOREIGN, "ap-southeast-2")
    assert identity(Aws.of("free")) == Identity(FOREIGN, "ap-southeast-2")


def test_another_account_is_refused_with_what_was_expected_what_is_there_and_the_remedy(shell: Any) -> None:
    shell(FOREIGN, REGION)
    with pytest.raises(Failure) as refused:
        Aws.of("owned")
    assert str(refused.value) == (
        f"environment owned belongs to account {OWN} (environments/owned.toml), and the shell's credentials are for"
        f" account {FOREIGN} (arn:aws:iam::{FOREIGN}:root): log in to {OWN}, or set AWS_PROFILE to a profile of it"
    )


def test_another_region_is_refused_before_anything_is_asked(shell: Any) -> None:
    shell(OWN, "us-east-1")
    with pytest.raises(Failure) as refused:
        Aws.of("owned")
    assert str(refused.value) == (
        f"environment owned belongs to {REGION} (environments/owned.toml), and the shell's AWS settings name us-east-1:"
        f" set AWS_REGION={REGION}"
    )


@pytest.mark.parametrize("content", ["[aws]\naccount = 111122223333\n", "[aws\n"])
def test_a_file_that_cannot_be_read_is_refused_and_not_taken_for_one_that_names_nothing(
    folder: Path, content: str
) -> None:
    (folder / "broken.toml").write_text(content)
    with pytest.raises(Failure, match=r"^environments/broken\.toml: \[aws\]: "):
        Aws.of("broken")


def test_the_commands_that_take_an_environment_are_found() -> None:
    assert {("status",), ("jobs", "submit"), ("deliveries", "list"), ("webhooks", "rotate")} <= COMMANDS.keys()
    assert ARGUMENTS.keys() <= COMMANDS.keys()


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_refuses_another_account_in_one_line(path: tuple[str, ...], shell: Any, tmp_path: Path) -> None:
    shell(FOREIGN, REGION)
    (stock := tmp_path / "stock.json").write_text(STOCK)
    required = [parameter for parameter in COMMANDS[path].params if parameter.required]
    arguments = ARGUMENTS.get(path, ["x"] * len(required))
    given = [argument.format(stock=stock) for argument in arguments]
    refuse([*path, *given, "--environment", "owned"])


@pytest.mark.parametrize("command", BY_NAME)
def test_so_does_every_command_that_is_given_its_name_as_the_argument(command: str, shell: Any) -> None:
    shell(FOREIGN, REGION)
    refuse([command, "owned"])


def refuse(arguments: list[str]) -> None:
    ended = CliRunner().invoke(app, arguments)
    assert isinstance(ended.exception, Failure), (ended.output, ended.exception)
    assert str(ended.exception).startswith(f"environment owned belongs to account {OWN}")
    assert len(str(ended.exception).splitlines()) == 1
