"""An environment that names its account and Region is operated on there and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from offload.cli.deployment.aws import Aws, Identity, identity
from offload.cli.deployment.failure import Failure
from tests.clinics import CLINIC
from tests.unit.cli.owned import FOREIGN, OWN, REGION, commands, folder, refuse, shell

__all__ = ["folder", "shell"]

SUPPLY = '{"item": "1", "units": 7, "low_below": 9, "cause": "visit.ended:1", "caused_at": "2010-12-01T08:26:00Z"}'

ARGUMENTS: dict[tuple[str, ...], list[str]] = {
    ("events", "publish"): ["supply.low", "--data", "{supply}"],
    ("integrations", "credentials"): ["registry", "--file", "{supply}"],
    ("outbox", "relay"): ["--database-url", "sqlite://"],
    ("subscriptions", "create"): ["--url", "https://example.com", "--type", "visit.ended"],
    ("subscriptions", "change"): ["sub_1", "--description", "x"],
    ("dead-letters", "drop"): ["--because", "x", "--consumer", "VisitLedger", "--yes"],
    ("deliveries", "recover"): ["--since", "2026-11-01T00:00+00:00", "--failed"],
    ("webhooks", "missing"): ["github", "--deliveries", "{supply}"],
    ("jobs", "submit"): ["ward_report"],
    ("jobs", "decide"): ["job-1", "done"],
    ("jobs", "answer"): ["job-1", "yes"],
}
"""What a command wants besides the environment, where one `x` an argument does not do."""


with pytest.MonkeyPatch.context() as clinic:
    clinic.setattr("offload.cli.catalogue.PROJECT", CLINIC)
    COMMANDS = commands()
BY_NAME = ("target", "before-deploy", "protect", "destroy", "connect")
"""Commands that are given the environment as their argument."""


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
    (supply := tmp_path / "supply.json").write_text(SUPPLY)
    required = [parameter for parameter in COMMANDS[path].params if parameter.required]
    arguments = ARGUMENTS.get(path, ["x"] * len(required))
    given = [argument.format(supply=supply) for argument in arguments]
    refuse([*path, *given, "--environment", "owned"])


@pytest.mark.parametrize("command", BY_NAME)
def test_so_does_every_command_that_is_given_its_name_as_the_argument(command: str, shell: Any) -> None:
    shell(FOREIGN, REGION)
    refuse([command, "owned"])
