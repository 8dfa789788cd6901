"""Rotation of the key that seals subscriptions' secrets: through the real API, a real table and a real secret."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

import pytest
from standardwebhooks import Webhook
from typer.testing import CliRunner, Result

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.progress import SILENT
from offload.cli.deployment.resources import Deployment
from offload.cli.deployment.secret_versions import replace_version
from offload.cli.main import app
from offload.cli.webhooks_out import sealing_key
from offload.cli.webhooks_out.api import subscriptions_api
from offload.cli.webhooks_out.sealing_key import RotatedKey, rotate_sealing_key
from offload.contracts.secret_versions import CURRENT, PREVIOUS
from offload.runtime.lean_aws import services
from offload.runtime.webhooks_out.vault import Vault
from tests.misbehaving_server import MisbehavingServer
from tests.unit.webhooks_out.sending_bench import SendingBench

pytestmark = pytest.mark.usefixtures("aws_of_module", "deployment")

RUNNER: Final = CliRunner()
_names = iter(range(10_000))


@pytest.fixture
def bench(aws_of_module: None) -> Iterator[SendingBench]:
    made = SendingBench()
    yield made
    made.close()


def call(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["subscriptions", *arguments])


def document(*arguments: str) -> dict[str, Any]:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, (result.stdout, result.exception)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def subscribed(server: MisbehavingServer, *options: str) -> dict[str, Any]:
    url = server.url(f"sealed-{next(_names)}")
    return document("create", "--url", url, "--type", "visit.ended", *options)


def signs(server: MisbehavingServer, subscription: dict[str, Any], secret: str) -> bool:
    """Whether a test arrives that is signed with the secret."""
    assert call("test", subscription["id"]).exit_code == 0
    received = server.received(subscription["url"].rpartition("/")[2])[-1]
    headers = {name.lower(): value for name, value in received.headers}
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    signature = Webhook(secret).sign(headers["webhook-id"], at, received.body.decode())
    return signature in headers["webhook-signature"].split()


def rotate(deployment: Deployment, sleep: Callable[[float], None] = lambda _: None, **options: Any) -> RotatedKey:
    with subscriptions_api(deployment) as api:
        return rotate_sealing_key(deployment, api, SILENT, sleep=sleep, **options)


def labels(deployment: Deployment) -> dict[str, str]:
    """The version that each of the two labels is at."""
    secret = deployment.subscription_service.sealing_secret
    stages = deployment.aws.secrets_manager.describe_secret(SecretId=secret)["VersionIdsToStages"]
    return {label: version for version, found in stages.items() for label in found if label in (CURRENT, PREVIOUS)}


def test_every_subscription_is_sealed_anew_and_none_is_out_of_reach_meanwhile(
    bench: SendingBench, deployment: Deployment, server: MisbehavingServer
) -> None:
    made = [subscribed(server, "--header", "authorization: Bearer 1") for _ in range(3)]
    waited: list[float] = []

    def meanwhile(seconds: float) -> None:
        waited.append(seconds)
        assert all(signs(server, each, each["secret"]) for each in made)
        made.append(subscribed(server))

    before = labels(deployment)
    assert rotate(deployment, meanwhile) == RotatedKey(subscriptions=4, sealed_anew=3, lost=())
    assert 55 < waited[0] <= 60
    after = labels(deployment)
    assert after.keys() == before.keys() == {CURRENT}
    assert after[CURRENT] != before[CURRENT]
    vault = Vault.of_secret(deployment.subscription_service.sealing_secret, services()[2])
    for record in bench.subscriptions.all():
        assert vault.open(record.id, record.sealed)
    assert all(signs(server, each, each["secret"]) for each in made)


def test_a_rotation_that_was_cut_short_goes_on(deployment: Deployment, server: MisbehavingServer) -> None:
    made = subscribed(server)

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rotate(deployment, stop)
    assert signs(server, made, made["secret"])
    under_way = labels(deployment)
    assert PREVIOUS in under_way
    waited: list[float] = []
    assert rotate(deployment, waited.append) == RotatedKey(subscriptions=1, sealed_anew=1, lost=())
    assert len(waited) == 1
    assert labels(deployment) == {CURRENT: under_way[CURRENT]}
    assert signs(server, made, made["secret"])


def test_of_two_rotations_at_the_same_moment_one_begins(deployment: Deployment) -> None:
    manager, secret = deployment.aws.secrets_manager, deployment.subscription_service.sealing_secret
    before = labels(deployment)[CURRENT]
    first = replace_version(manager, secret, before, "the one key")
    assert replace_version(manager, secret, before, "the other key") is None
    assert labels(deployment) == {CURRENT: first, PREVIOUS: before}


def test_one_that_was_deleted_meanwhile_is_left_out(deployment: Deployment, server: MisbehavingServer) -> None:
    kept, gone = subscribed(server), subscribed(server)
    with subscriptions_api(deployment) as api:
        found = api.subscriptions

        def listed(*given: Any) -> Any:
            listing = found(*given)
            api.delete(gone["id"])
            return listing

        api.subscriptions = listed  # type: ignore[assignment,method-assign]
        rotated = rotate_sealing_key(deployment, api, SILENT, settled_after=timedelta(0))
    assert rotated == RotatedKey(subscriptions=2, sealed_anew=1, lost=())
    assert signs(server, kept, kept["secret"])


def test_what_no_key_opens_is_named_and_begins_anew_without_an_overlap(
    deployment: Deployment, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing_key, "rotate_sealing_key", partial(rotate_sealing_key, settled_after=timedelta(0)))
    lost = subscribed(server, "--header", "authorization: Bearer 1", "--ed25519")
    secret = deployment.subscription_service.sealing_secret
    for key in ("replaced by hand", "and again"):
        deployment.aws.secrets_manager.put_secret_value(SecretId=secret, SecretString=key)
    well = subscribed(server)
    told = call("rotate-sealing-key")
    assert told.exit_code == 1
    advice = f"offload subscriptions rotate {lost['id']} --overlap 0h"
    assert told.stdout.splitlines()[-1] == f"{lost['id']}: no key opens its secret: {advice}"
    assert PREVIOUS not in labels(deployment)
    for command in (("rotate", lost["id"]), ("test", lost["id"])):
        refused = call(*command)
        assert isinstance(refused.exception, Failure)
        assert "was sealed under a key that is gone" in str(refused.exception)
    anew = document("rotate", lost["id"], "--overlap", "0h")
    assert signs(server, lost, anew["secret"])
    shown = document("show", lost["id"])
    assert not shown.get("headers")
    assert shown["public_key"] != lost["public_key"]
    assert json.loads(call("rotate-sealing-key", "--json").stdout) == {"subscriptions": 2, "sealed_anew": 2, "lost": []}
    assert signs(server, well, well["secret"])
