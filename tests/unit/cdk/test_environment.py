"""The settings of an environment, read from its file."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

import pytest
from aws_cdk import App, Stack
from msgspec import Meta, Struct

from offload.cdk.bundling import Target
from offload.cdk.environment import Environment, UnusableEnvironment
from offload.runtime.http.guard import AddressRefused, Guard

pytestmark = pytest.mark.synthesis

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

[app.stock]
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


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_every_python_that_a_file_may_name_can_be_bundled_for_both_architectures(folder: Path, python: str) -> None:
    (folder / "dev.toml").write_text(WHOLE.replace('python = "3.13"', f'python = "{python}"'), encoding="utf-8")
    functions = Environment.load("dev", folder).functions
    for architecture, machine in (("arm64", "aarch64"), ("x86_64", "x86_64")):
        uv_platform = Target.of(functions.python, architecture).uv_platform
        assert uv_platform is not None
        assert uv_platform.startswith(f"{machine}-manylinux_2_")


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
        ("refused_per_minute = 60", "refused_per_minute = 0", ("webhooks.refused_per_minute", ">= 1")),
        ("burst = 100", "burst = 5001", ("webhooks.burst", "<= 5000")),
        ("burst = 100", "", ("webhooks", "`burst`")),
        ("archive_days = 3", "archive_days = 3\nretention = 1", ("bus", "`retention`")),
        ("[bus]", "[extra]\n[bus]", ("`extra`",)),
        ("[bus]", '[alarms]\nemail = "nobody"\n[bus]', ("alarms.email",)),
        ("[bus]", "[bus", ("line 11",)),
        ("[bus]", '[egress]\nprivate = ["10.0.0.0/33"]\n[bus]', ("egress: private", "'10.0.0.0/33' is no network")),
        ("[bus]", '[egress]\nprivate = ["10.0.0.1/8"]\n[bus]', ("egress: private", "'10.0.0.1/8'", "host bits")),
        ("[bus]", '[egress]\nprivate = ["169.254.169.254/32"]\n[bus]', ("overlaps", "rule metadata")),
        ("[bus]", '[egress]\nprivate = ["0.0.0.0/0"]\n[bus]', ("'0.0.0.0/0' overlaps", "nothing allows it")),
        ("[bus]", '[egress]\nprivate = ["::/0"]\n[bus]', ("'::/0' overlaps", "nothing allows it")),
        ("[bus]", '[egress]\nprivate = ["fe80::/64"]\n[bus]', ("overlaps fe80::/10", "rule link-local")),
        ("[bus]", "[egress]\nprivate = [8]\n[bus]", ("egress.private", "`str`")),
        ("[bus]", '[egress]\nschemes = ["ftp"]\n[bus]', ("egress.schemes", "ftp")),
        ("[bus]", "[egress]\nschemes = []\n[bus]", ("egress.schemes", ">= 1")),
        ("[bus]", "[egress]\nports = [0]\n[bus]", ("egress.ports", ">= 1")),
        ("[bus]", "[egress]\nports = [65536]\n[bus]", ("egress.ports", "<= 65535")),
        ("[bus]", '[egress]\nports = "all"\n[bus]', ("egress.ports", "all")),
        ("[bus]", "[egress]\nports = []\n[bus]", ("egress.ports", ">= 1")),
        ("[bus]", "[sending]\nconcurrency = 1\n[bus]", ("sending.concurrency", ">= 2")),
        ("[bus]", '[sending]\nconcurrency = "any"\n[bus]', ("sending.concurrency", "`int`")),
        ("[bus]", '[queues]\nconcurrency = "all"\n[bus]', ("queues.concurrency", "all")),
        ("[bus]", "[queues]\nlanes = 3\n[bus]", ("queues.lanes", "`str`")),
        ("[bus]", '[integrations]\nunused = "slack"\n[bus]', ("integrations.unused", "`array`")),
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


def with_address(folder: Path, address: str) -> None:
    (folder / "dev.toml").write_text(f'{WHOLE}\n[alarms]\nemail = "{address}"\n', encoding="utf-8")


@pytest.mark.parametrize(
    ("address", "domain"),
    [
        ("operators@example.com", "example.com"),
        ("operators@Example.NET", "example.net"),
        ("operators@mail.example.org.", "example.org"),
        ("operators@company.example", "example"),
        ("operators@company.test", "test"),
        ("operators@test", "test"),
        ("operators@company.invalid", "invalid"),
        ("root@localhost", "localhost"),
        ("root@company.localhost", "localhost"),
    ],
)
def test_an_address_at_a_domain_that_takes_no_mail_is_refused_by_its_name(
    folder: Path, address: str, domain: str
) -> None:
    with_address(folder, address)
    message = refusal(folder, "dev")
    assert message.startswith(f"environments/dev.toml: alarms: email: '{address}' is at {domain}, ")
    assert "reserved" in message


@pytest.mark.parametrize("address", ["operators@myexample.com", "operators@example.com.au", "on-call@contest"])
def test_an_address_whose_domain_only_looks_reserved_is_taken(folder: Path, address: str) -> None:
    with_address(folder, address)
    assert Environment.load("dev", folder).alarms.email == address


def test_a_file_that_is_not_text_is_refused_by_name(folder: Path) -> None:
    (folder / "dev.toml").write_bytes(b"\xff\xfe")
    assert refusal(folder, "dev").startswith("environments/dev.toml: ")


def test_what_is_attached_to_an_app_is_found_anywhere_below_it(folder: Path) -> None:
    environment = Environment.load("dev", folder)
    app = App()
    environment.attach(app)
    assert Environment.of(Stack(app, "Stack")) == environment


class Stock(Struct, frozen=True, forbid_unknown_fields=True):
    """A section of an app's."""

    opening_units: int
    low_below: Annotated[int, Meta(ge=0)]


def test_a_section_of_the_apps_is_read_by_its_struct(folder: Path) -> None:
    assert Environment.load("dev", folder).section("stock", Stock) == Stock(opening_units=1000, low_below=100)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("low_below = 100", "low_below = -1", "app.stock.low_below: Expected `int` >= 0"),
        ("low_below = 100", 'low_below = "few"', "app.stock.low_below: Expected `int`, got `str`"),
        ("low_below = 100", "", "app.stock: Object missing required field `low_below`"),
        ("low_below = 100", "low_below = 100\ncolour = 1", "app.stock: Object contains unknown field `colour`"),
        ("[app.stock]\nopening_units = 1000\nlow_below = 100", "", "`app.stock` is missing"),
    ],
)
def test_a_section_of_the_apps_that_is_not_as_its_struct_is_refused_by_file_and_key(
    folder: Path, before: str, after: str, says: str
) -> None:
    assert before in WHOLE
    (folder / "dev.toml").write_text(WHOLE.replace(before, after), encoding="utf-8")
    with pytest.raises(UnusableEnvironment) as caught:
        Environment.load("dev", folder).section("stock", Stock)
    assert str(caught.value) == f"environments/dev.toml: {says}"


def test_a_construct_without_an_environment_says_where_it_stands() -> None:
    with pytest.raises(UnusableEnvironment, match="Lonely: no environment was attached"):
        Environment.of(Stack(App(), "Lonely"))


def test_without_a_word_of_it_calls_out_are_https_to_port_443_of_public_addresses(folder: Path) -> None:
    assert Environment.load("dev", folder).egress.variables() == {
        "OFFLOAD_EGRESS_PRIVATE": "",
        "OFFLOAD_EGRESS_SCHEMES": "https",
        "OFFLOAD_EGRESS_PORTS": "443",
    }


def test_what_a_file_says_of_calls_out_reaches_the_guard(folder: Path) -> None:
    egress = '\n[egress]\nprivate = ["10.1.0.0/16", "fd12::/16"]\nschemes = ["http", "https"]\nports = [443, 8443]\n'
    (folder / "dev.toml").write_text(WHOLE + egress, encoding="utf-8")
    guard = Guard.from_environment(Environment.load("dev", folder).egress.variables())
    assert guard == Guard(
        (ip_network("10.1.0.0/16"), ip_network("fd12::/16")), frozenset({"http", "https"}), frozenset({443, 8443})
    )


def test_a_private_network_with_an_address_of_metadata_in_it_may_be_listed(folder: Path) -> None:
    (folder / "dev.toml").write_text(WHOLE + '\n[egress]\nprivate = ["100.64.0.0/10", "fd00::/8"]\n', encoding="utf-8")
    guard = Guard.from_environment(Environment.load("dev", folder).egress.variables())
    assert str(guard.check("100.64.0.1")) == "100.64.0.1"
    for metadata in ("100.100.100.200", "fd00:ec2::254"):
        with pytest.raises(AddressRefused, match="rule metadata"):
            guard.check(metadata)


def test_local_alone_may_call_this_machine() -> None:
    allowed = {}
    for name in Environment.names():
        guard = Guard.from_environment(Environment.load(name).egress.variables())
        try:
            allowed[name] = str(guard.target("http://127.0.0.1:8080/").host)
        except AddressRefused as error:
            allowed[name] = error.rule
    assert allowed == {"dev": "scheme", "local": "127.0.0.1", "prod": "scheme", "staging": "scheme"}


def test_the_shipped_prod_misses_its_account_region_and_address_and_says_so_a_line_each() -> None:
    assert Environment.load("prod").missing() == [
        "environments/prod.toml: aws.account: it keeps data (data.keep) and needs the 12 digits of the account"
        " that it belongs to",
        "environments/prod.toml: aws.region: it keeps data (data.keep) and needs the Region that it belongs to,"
        " such as eu-west-1",
        "environments/prod.toml: alarms.email: it keeps data (data.keep) and needs the address that its alarms go to",
    ]


@pytest.mark.parametrize("name", Environment.names())
def test_every_shipped_environment_is_complete_once_filled_in(name: str) -> None:
    assert Environment.filled_in(name).missing() == []


@pytest.mark.parametrize(
    "key",
    [
        "own",
        "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555",
        "arn:aws:kms:eu-west-1:123456789012:key/mrk-0123456789abcdef0123456789abcdef",
    ],
)
def test_a_key_is_named_by_its_arn_or_made_by_the_app(folder: Path, key: str) -> None:
    (folder / "dev.toml").write_text(WHOLE.replace("[data]", f'[data]\nkms_key = "{key}"'), encoding="utf-8")
    assert Environment.load("dev", folder).data.kms_key == key


@pytest.mark.parametrize("key", ["", "alias/offload", "arn:aws:kms:eu-west-1:123456789012:alias/offload", "yes"])
def test_a_key_by_an_alias_or_anything_else_is_refused_by_its_place(folder: Path, key: str) -> None:
    (folder / "dev.toml").write_text(WHOLE.replace("[data]", f'[data]\nkms_key = "{key}"'), encoding="utf-8")
    assert refusal(folder, "dev").startswith("environments/dev.toml: data.kms_key: ")


def test_a_key_of_another_region_is_refused(folder: Path) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
    text = WHOLE.replace("[data]", f'[data]\nkms_key = "{key}"') + '\n[aws]\nregion = "eu-west-1"\n'
    (folder / "dev.toml").write_text(text, encoding="utf-8")
    assert "the key is in us-east-1, and the environment in eu-west-1" in refusal(folder, "dev")


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        ('principal = "ecs-tasks.amazonaws.com"', None),
        ('principal = "arn:aws:iam::123456789012:role/shop"', None),
        ('role = "arn:aws:iam::123456789012:role/path/shop"', None),
        ('principal = "*"', "monolith.principal"),
        ('principal = "arn:aws:iam::123456789012:root"', "monolith.principal"),
        ('role = "shop"', "monolith.role"),
        ('principal = "ec2.amazonaws.com"\nrole = "arn:aws:iam::123456789012:role/shop"', "name one"),
    ],
)
def test_the_monolith_is_a_principal_for_a_new_role_or_a_role_that_exists(
    folder: Path, said: str, wrong: str | None
) -> None:
    (folder / "dev.toml").write_text(f"{WHOLE}\n[monolith]\n{said}\n", encoding="utf-8")
    if wrong is None:
        Environment.load("dev", folder)
    else:
        assert wrong in refusal(folder, "dev")
