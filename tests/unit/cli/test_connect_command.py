"""`offload connect`: the variables by which the monolith reaches what is deployed."""

from __future__ import annotations

import json
import subprocess
from types import SimpleNamespace
from typing import Any, cast

import pytest
from typer.testing import CliRunner, Result

from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.connect import Format, show, variables
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment, Resource, SubscriptionService
from offload.cli.local.process import Instance
from offload.cli.main import app

BARE = {"AWS_REGION": "eu-west-1"}


class Deployed(Deployment):
    """Everything is real but what CloudFormation says."""

    @property
    def resources(self) -> tuple[Resource, ...]:
        return getattr(self.aws, "holds", ())

    def job_service_or_none(self) -> Any:
        return SimpleNamespace(endpoint="https://jobs.example") if self.resources else None

    @property
    def subscription_services(self) -> Any:
        service = SubscriptionService("https://hooks.example", "table", "secret", "offload-dev-clinic", None)
        return (service,) if self.resources else ()


def on_aws(*holds: Resource) -> Deployment:
    session = SimpleNamespace(region_name="eu-west-1")
    return Deployed(cast(Aws, SimpleNamespace(environment="dev", instance=None, session=session, holds=holds)))


def resource(path: str, kind: str, name: str) -> Resource:
    return Resource("offload-dev-platform", path, path.replace("/", ""), kind, name, {})


BUS = resource("Events/Bus", "AWS::Events::EventBus", "visits")
CLAIMS = resource("Events/Claims", "AWS::S3::Bucket", "claims-1")
WHOLE = {
    "OFFLOAD_BUS": "visits",
    "OFFLOAD_CLAIMS_BUCKET": "claims-1",
    "OFFLOAD_JOBS_URL": "https://jobs.example",
    "OFFLOAD_SUBSCRIPTIONS_URL": "https://hooks.example",
    **BARE,
}


def test_an_environment_on_aws_has_its_four_variables_and_the_region_and_no_credentials() -> None:
    assert variables(on_aws(BUS, CLAIMS)) == WHOLE


def test_what_is_not_deployed_is_left_out() -> None:
    assert variables(on_aws()) == BARE
    assert "OFFLOAD_CLAIMS_BUCKET" not in variables(on_aws(BUS))


def test_of_two_buses_none_is_chosen() -> None:
    with pytest.raises(Failure, match="environment dev has 2 event buses, and should have one"):
        variables(on_aws(BUS, resource("Other", BUS.type, "other")))


def test_local_has_what_points_an_sdk_at_the_embedded_aws() -> None:
    instance = Instance(1, 1, "https://127.0.0.1:1", "", "", certificate="/tmp/embedded.pem")
    found = variables(Deployed(Aws("local", instance)))
    assert found["AWS_ENDPOINT_URL"] == "https://127.0.0.1:1"
    assert {found[name] for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE")} == {"/tmp/embedded.pem"}
    assert found["AWS_ACCESS_KEY_ID"] == "000000000000"


def test_a_shell_reads_the_lines_as_they_were(capsys: pytest.CaptureFixture[str]) -> None:
    odd = {"OFFLOAD_BUS": 'it\'s $(date) `x` \\ "q" *', "AWS_REGION": "eu-west-1"}
    show(odd, Format.ENV)
    lines = capsys.readouterr().out
    assert [line.partition("=")[0] for line in lines.splitlines()] == ["export OFFLOAD_BUS", "export AWS_REGION"]
    shell = f'{lines}printf "%s|%s" "$OFFLOAD_BUS" "$AWS_REGION"'
    read = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert read == "|".join(odd.values())


@pytest.mark.parametrize("form", Format)
def test_nothing_that_is_printed_steers_the_terminal(form: Format, capsys: pytest.CaptureFixture[str]) -> None:
    show({"OFFLOAD_BUS": "a\x1b]52;c;QUJD\x07\u202eb"}, form)
    assert not {"\x1b", "\x07", "\u202e"} & set(capsys.readouterr().out)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The environments that a command looked for."""
    names: list[str] = []

    def of(environment: str) -> Deployment:
        names.append(environment)
        return on_aws(BUS, CLAIMS)

    monkeypatch.setattr(resources.Deployment, "of", staticmethod(of))
    return names


def connect(*arguments: str) -> Result:
    result = CliRunner().invoke(app, ["connect", *arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def test_the_environment_is_named_by_the_argument_or_by_the_option_and_local_else(asked: list[str]) -> None:
    for arguments in ((), ("dev",), ("--environment", "staging"), ("-e", "prod")):
        connect(*arguments)
    assert asked == ["local", "dev", "staging", "prod"]


def test_two_environments_are_wrong_usage(asked: list[str]) -> None:
    result = CliRunner().invoke(app, ["connect", "dev", "--environment", "prod"])
    assert (result.exit_code, asked) == (2, [])
    assert "dev and prod: name one environment" in result.output


def test_it_prints_exports_or_json(asked: list[str]) -> None:
    assert connect("dev").stdout == connect("dev", "--format", "env").stdout
    assert connect("dev").stdout.splitlines()[0] == "export OFFLOAD_BUS=visits"
    assert json.loads(connect("dev", "--format", "json").stdout) == WHOLE
