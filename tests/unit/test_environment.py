"""The settings of an environment, read from its file."""

from __future__ import annotations

from pathlib import Path

import pytest
from aws_cdk import App, Stack

from stacks.environment import Environment, UnusableEnvironment

WHOLE = """
[functions]
python = "3.13"
architecture = "arm64"
log_retention_days = 7

[data]
keep = false
point_in_time_recovery = false

[bus]
archive_days = 3

[stock]
opening_units = 1000
low_below = 100

[webhooks]
refused_per_minute = 60
requests_per_second = 50
burst = 100
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    environments = tmp_path / "environments"
    environments.mkdir()
    (environments / "dev.toml").write_text(WHOLE, encoding="utf-8")
    return environments


def refusal(folder: Path, name: str | None) -> str:
    with pytest.raises(UnusableEnvironment) as caught:
        Environment.load(name, folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_whole_file_is_read_into_typed_settings(folder: Path) -> None:
    environment = Environment.load("dev", folder)
    assert environment.name == "dev"
    assert environment.functions.log_retention_days == 7
    assert environment.data.keep is False
    assert environment.bus.archive_days == 3
    assert environment.alarms.email is None


@pytest.mark.parametrize("name", Environment.names())
def test_every_environment_of_the_project_is_whole(name: str) -> None:
    assert Environment.load(name).name == name


def test_the_project_has_its_four_environments() -> None:
    assert Environment.names() == ["dev", "local", "prod", "staging"]


@pytest.mark.parametrize("name", [None, ""])
def test_no_environment_is_an_error_that_lists_them(folder: Path, name: str | None) -> None:
    assert refusal(folder, name) == "no environment: say which one with -c environment=NAME (one of dev)"


def test_an_unknown_environment_names_the_file_that_is_missing(folder: Path) -> None:
    assert refusal(folder, "qa") == "no environment 'qa': environments/qa.toml does not exist (known: dev)"


def test_a_path_is_no_environment(folder: Path) -> None:
    (folder.parent / "outside.toml").write_text(WHOLE, encoding="utf-8")
    assert "no environment '../outside'" in refusal(folder, "../outside")


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("archive_days = 3", "", ("bus", "`archive_days`")),
        ("[bus]\narchive_days = 3", "", ("`bus`",)),
        ("archive_days = 3", 'archive_days = "3"', ("bus.archive_days", "`int`", "`str`")),
        ("archive_days = 3", "archive_days = 0", ("bus.archive_days", ">= 1")),
        ("archive_days = 3", "archive_days = 3654", ("bus.archive_days", "<= 3653")),
        ("log_retention_days = 7", "log_retention_days = 8", ("functions.log_retention_days", "8")),
        ('python = "3.13"', 'python = "2.7"', ("functions.python", "2.7")),
        ('architecture = "arm64"', 'architecture = "sparc"', ("functions.architecture", "sparc")),
        ("keep = false", 'keep = "no"', ("data.keep", "`bool`")),
        ("low_below = 100", "low_below = -1", ("stock.low_below", ">= 0")),
        ("refused_per_minute = 60", "refused_per_minute = 0", ("webhooks.refused_per_minute", ">= 1")),
        ("burst = 100", "burst = 5001", ("webhooks.burst", "<= 5000")),
        ("burst = 100", "", ("webhooks", "`burst`")),
        ("archive_days = 3", "archive_days = 3\nretention = 1", ("bus", "`retention`")),
        ("[bus]", "[extra]\n[bus]", ("`extra`",)),
        ("[bus]", '[alarms]\nemail = "nobody"\n[bus]', ("alarms.email",)),
        ("[bus]", "[bus", ("line 11",)),
    ],
)
def test_a_wrong_file_is_one_line_that_names_the_file_and_the_key(
    folder: Path, before: str, after: str, says: tuple[str, ...]
) -> None:
    assert before in WHOLE
    (folder / "dev.toml").write_text(WHOLE.replace(before, after, 1), encoding="utf-8")
    message = refusal(folder, "dev")
    assert message.startswith("environments/dev.toml: ")
    for part in says:
        assert part in message


def test_a_file_that_is_not_text_is_refused_by_name(folder: Path) -> None:
    (folder / "dev.toml").write_bytes(b"\xff\xfe")
    assert refusal(folder, "dev").startswith("environments/dev.toml: ")


def test_what_is_attached_to_an_app_is_found_anywhere_below_it(folder: Path) -> None:
    environment = Environment.load("dev", folder)
    app = App()
    environment.attach(app)
    assert Environment.of(Stack(app, "Stack")) == environment


def test_a_construct_without_an_environment_says_where_it_stands() -> None:
    with pytest.raises(UnusableEnvironment, match="Lonely: no environment was attached"):
        Environment.of(Stack(App(), "Lonely"))
