"""What `make conformance` says and refuses before it makes anything."""

from __future__ import annotations

from typing import Any, cast

import boto3
import pytest

from offload.cli.deployment.aws import Aws
from offload.cli.local.process import Instance
from offload.cli.preflight.assembly import Kept
from tests.conformance import account, oracle


@pytest.fixture
def dev_here(emulator: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dev` is on the embedded AWS."""
    monkeypatch.setattr(Aws, "of", staticmethod(lambda environment: Aws(environment, emulator)))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was handed to pytest."""
    found: list[Any] = []

    def run(arguments: list[str]) -> int:
        found.append(arguments)
        return 0

    monkeypatch.setattr(pytest, "main", run)
    monkeypatch.setenv(account.ENVIRONMENT_VARIABLE, "")
    return found


@pytest.mark.usefixtures("dev_here")
def test_it_says_what_it_makes_and_costs_and_runs_once_the_environments_name_is_typed(ran: list[Any]) -> None:
    said: list[str] = []

    def answer(text: str) -> str:
        said.append(text)
        return "dev"

    assert account.main(["dev"], ask=answer) == 0
    assert len(ran) == 1
    assert "account 000000000000, us-east-1" in said[0]
    assert f"{account.DOLLARS_AT_MOST} US dollars" in said[0]


@pytest.mark.usefixtures("dev_here")
@pytest.mark.parametrize("answer", ["", "y", "prod"])
def test_any_other_answer_makes_nothing(answer: str, ran: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert account.main(["dev"], ask=lambda text: answer) == 1
    assert ran == []
    assert "not confirmed, nothing was made" in capsys.readouterr().err


@pytest.mark.usefixtures("dev_here")
@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (Kept("dev", keep=True), "dev keeps data"),
        (Kept("dev", account="123456789012"), "belongs to 123456789012"),
        (Kept("dev", region="eu-west-1"), "belongs to None, eu-west-1"),
    ],
)
def test_kept_data_and_the_wrong_account_are_refused_before_anything_is_asked(
    kept: Kept, says: str, ran: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(account, "of_file", lambda environment: kept)
    assert account.main(["dev"], ask=lambda text: pytest.fail("asked")) == 1
    assert ran == []
    assert says in capsys.readouterr().err


def test_the_shipped_prod_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert account.main(["prod"], ask=lambda text: pytest.fail("asked")) == 1
    assert "prod keeps data" in capsys.readouterr().err


def test_what_was_made_is_removed_also_when_one_of_it_is_gone_or_cannot_be_removed(emulator: Instance) -> None:
    asked = oracle.of(Aws("local", emulator))
    sqs = asked.client("sqs")
    first, gone = asked.queue(), asked.queue()
    asked.later(lambda: (_ for _ in ()).throw(RuntimeError("not now")))
    sqs.delete_queue(QueueUrl=gone)
    with pytest.raises(RuntimeError, match="not now"):
        asked.close()
    left = cast("Any", sqs.list_queues(QueueNamePrefix=asked.prefix)).get("QueueUrls", [])
    assert first not in left
    assert left == []


def test_an_account_is_asked_by_the_shells_credentials_and_not_by_the_embedded_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    asked = oracle.of(Aws("dev"))
    assert (asked.where, asked.region) == ("account", "eu-west-1")
    assert asked.client("sqs").meta.endpoint_url == boto3.client("sqs", region_name="eu-west-1").meta.endpoint_url
