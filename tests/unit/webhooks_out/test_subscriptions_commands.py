"""What `offload subscriptions` says and does: through the real API, on a real table, to a real receiver."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.credentials import Credentials
from typer.testing import CliRunner, Result

from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.cli.local.process import Instance
from offload.cli.main import app
from offload.cli.webhooks_out.api import Refused, SubscriptionsApi
from offload.contracts.webhooks_out.subscription import Wish
from tests.misbehaving_server import Answer, Hang, MisbehavingServer
from tests.unit.webhooks_out.sending_bench import QUICK, SendingBench

pytestmark = pytest.mark.usefixtures("aws_of_module", "deployment")

RUNNER = CliRunner()
BROUGHT = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"
_names = iter(range(10_000))


@pytest.fixture
def endpoint(server: MisbehavingServer) -> str:
    """An endpoint that nobody has used before, which answers 200."""
    return server.url(f"commands-{next(_names)}")


@pytest.fixture
def bench(aws_of_module: None, request: pytest.FixtureRequest) -> Iterator[SendingBench]:
    made = SendingBench(policy=getattr(request, "param", None))
    yield made
    made.close()


def call(*arguments: str, stdin: str | None = None) -> Result:
    """Runs a command; a Failure is the result's exception."""
    return RUNNER.invoke(app, ["subscriptions", *arguments], input=stdin)


def said(*arguments: str, stdin: str | None = None) -> str:
    result = call(*arguments, stdin=stdin)
    assert result.exit_code == 0, (result.stdout, result.exception)
    return result.stdout


def document(*arguments: str, stdin: str | None = None) -> Any:
    return json.loads(said(*arguments, "--json", stdin=stdin))


def failure(*arguments: str, stdin: str | None = None) -> str:
    result = call(*arguments, stdin=stdin)
    assert isinstance(result.exception, Failure), (result.stdout, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def created(endpoint: str, *options: str) -> str:
    return str(document("create", "--url", endpoint, "--type", "visit.*", *options)["id"])


# -- create


def test_a_new_subscription_is_told_with_its_secret_once(endpoint: str) -> None:
    lines = said("create", "--url", endpoint, "--type", "visit.ended").splitlines()
    assert re.fullmatch("sub_[0-9a-f]{20}", lines[0])
    assert re.fullmatch("secret whsec_[A-Za-z0-9+/=]{44}", lines[1])
    assert lines[2] == "Hand it to the receiver. It is not shown again."
    assert "whsec_" not in said("show", lines[0]) + said("list") + said("show", lines[0], "--json")


def test_every_wish_is_kept(endpoint: str) -> None:
    options = ("--type", "supply.*", "--tenant", "acme", "--filter", '{"ward": ["Eyes"]}', "--rate", "7")
    more = ("--ordered", "--ed25519", "--description", "Acme's ERP", "--tag", "erp", "--tag", "eu")
    own = ("--header", "X-Key: a: b", "--header", "X-Other:c")
    found = document("create", "--url", endpoint, "--type", "visit.ended", *options, *more, *own)
    assert found["secret"].startswith("whsec_")
    assert found["public_key"].startswith("whpk_")
    wished = {name: found[name] for name in ("types", "tenant", "filter", "rate", "ordered", "tags", "headers")}
    assert wished == {
        "types": ["visit.ended", "supply.*"],
        "tenant": "acme",
        "filter": {"ward": ["Eyes"]},
        "rate": 7,
        "ordered": True,
        "tags": ["erp", "eu"],
        "headers": ["X-Key", "X-Other"],
    }
    text = said("show", found["id"])
    assert "a: b" not in text
    for line in (
        "id           " + found["id"],
        "filter       " + '{"ward": ["Eyes"]}',
        "health       well",
        "rate         7 a second",
        "ordered      by subject",
        "headers      X-Key, X-Other",
        "description  Acme's ERP",
    ):
        assert line in text.splitlines()


def test_a_secret_that_is_brought_along_is_not_shown(endpoint: str) -> None:
    result = said("create", "--url", endpoint, "--type", "*", "--secret-stdin", stdin=f"{BROUGHT}\n")
    assert re.fullmatch("sub_[0-9a-f]{20}\n", result)
    assert document("create", "--url", endpoint, "--type", "*", "--secret", BROUGHT)["secret"] is None
    assert "give one of the two" in failure(
        "create", "--url", endpoint, "--type", "*", "--secret", BROUGHT, "--secret-stdin"
    )
    assert "stdin is empty" in failure("create", "--url", endpoint, "--type", "*", "--secret-stdin", stdin="")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--url", "http://169.254.169.254/latest"), "url: "),
        (("--url", "ftp://127.0.0.1/"), "url: "),
        (("--type", "visit.paid"), "types: 'visit.paid' is none of job.finished"),
        (("--filter", "{"), "--filter: Input data was truncated: a JSON object, such as"),
        (("--filter", "[]"), "--filter: Expected `object`, got `array`"),
        (("--filter", '{"ward": "Eyes"}'), "filter"),
        (("--header", "X-Key"), "--header: 'X-Key' has no value: write it as 'Name: value'"),
        (("--header", "Host: example.org"), "headers: 'Host' is not the subscription's to set"),
        (("--header", "Two words: x"), "matching regex"),
        (("--secret", "whsec_short"), "secret"),
        (("--tenant", "a b"), "matching regex"),
    ],
)
def test_what_cannot_be_is_said_in_a_line_and_nothing_is_kept(
    endpoint: str, options: tuple[str, str], told: str
) -> None:
    asked = {"--url": endpoint, "--type": "visit.ended"} | {options[0]: options[1]}
    assert told in failure("create", *(part for pair in asked.items() for part in pair))
    assert said("list") == "no subscriptions\n"


def test_a_header_that_is_given_twice_is_refused_whatever_its_case(endpoint: str) -> None:
    told = failure("create", "--url", endpoint, "--type", "*", "--header", "X-Key: s3cret", "--header", "x-key: other")
    assert "--header: 'x-key' is there twice" in told
    assert "s3cret" not in told


# -- list, show, change


def test_subscriptions_are_listed_by_tenant_state_and_type(endpoint: str) -> None:
    first = created(endpoint, "--tenant", "acme")
    second = str(document("create", "--url", endpoint, "--type", "supply.low", "--tenant", "blue")["id"])
    said("pause", second)
    ids = {each["id"] for each in document("list")["subscriptions"]}
    assert ids == {first, second}
    for options, found in (
        (("--tenant", "acme"), first),
        (("--state", "paused"), second),
        (("--type", "visit.cancelled"), first),
    ):
        assert [each["id"] for each in document("list", *options)["subscriptions"]] == [found]
    lines = said("list").splitlines()
    assert lines[0].split() == ["id", "tenant", "types", "health", "url", "tags"]
    assert any(f"{second}  blue    supply.low  paused: by request  {endpoint}" in line for line in lines)
    assert failure("list", "--state", "gone") == "--state gone: is none of active, paused"


def test_more_subscriptions_than_a_page_has_are_all_listed(
    bench: SendingBench, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offload.client.subscriptions.MOST_LISTED", 2)
    made = {bench.subscribe(endpoint, ["visit.*"]).id for _ in range(5)}
    assert {each["id"] for each in document("list")["subscriptions"]} == made


def test_health_is_said_in_words(bench: SendingBench, server: MisbehavingServer) -> None:
    name = f"commands-{next(_names)}"
    server.script(name, then=Answer(500))
    record = bench.subscribe(server.url(name), ["*"])
    for _ in range(14):
        bench.owe(record)
    bench.work(record)
    # A parked endpoint is tried with one delivery at a time.
    bench.run_until(bench.clock() + timedelta(hours=3), step=timedelta(minutes=11))
    bench.clock.passes(hours=57)
    bench.wake()
    text = said("show", record.id)
    health = next(line for line in text.splitlines() if line.startswith("health"))
    assert re.fullmatch(
        r"health +failing since 2026-11-27 12:00:\d\dZ, 50 % of the way to the pause, parked until 2026-11-30 .*Z",
        health,
    ), text
    assert re.search("failures +[0-9]+% of the latest attempts", text)
    bench.clock.passes(hours=70)
    bench.wake()
    assert "paused: failing" in said("list")


def test_what_is_given_is_changed_and_the_rest_stays(endpoint: str) -> None:
    name = created(endpoint, "--filter", '{"ward": ["Eyes"]}', "--header", "X-Key: a", "--rate", "7")
    changed = document("change", name, "--type", "supply.low", "--description", "new")
    assert (changed["types"], changed["description"], changed["rate"]) == (["supply.low"], "new", 7)
    assert (changed["filter"], changed["headers"]) == ({"ward": ["Eyes"]}, ["X-Key"])
    bare = document("change", name, "--no-filter", "--no-headers", "--no-rate")
    assert (bare["filter"], bare["headers"], bare["rate"]) == (None, [], None)
    assert "nothing to change" in failure("change", name)
    assert failure("change", name, "--rate", "7", "--no-rate") == "the rate cannot be set and taken away at once"
    assert "url: " in failure("change", name, "--url", "http://169.254.169.254/")


# -- pause, resume, test, rotate, delete


def test_a_paused_one_is_sent_nothing_until_it_is_resumed(
    bench: SendingBench, server: MisbehavingServer, endpoint: str
) -> None:
    name = created(endpoint)
    record, _ = bench.subscriptions.get(name)
    assert said("pause", name) == (f"{name} is paused: what is owed to it waits: offload subscriptions resume {name}\n")
    event = bench.owe(record)
    bench.wake()
    assert bench.delivery(record, event).state == "waiting"
    assert said("resume", name) == f"{name} is active: what waits is sent, the oldest first\n"
    bench.wake()
    assert bench.delivery(record, event).state == "delivered"


@pytest.mark.parametrize("bench", [QUICK], ids=["quick"], indirect=True)
def test_a_test_shows_what_came_back_and_its_exit_code_says_whether_it_was_taken(server: MisbehavingServer) -> None:
    place = f"commands-{next(_names)}"
    server.script(place, [Answer(202, body=b"thank you"), Answer(403, body=b"who are you?"), Hang()])
    name = created(server.url(place))
    first = call("test", name)
    assert first.exit_code == 0
    assert re.fullmatch(rf"202 in \d+ ms from {server.url(place)}\n  \| thank you\n", first.stdout)
    second = call("test", name, "--type", "visit.ended")
    assert second.exit_code == 1
    assert second.stdout.startswith("403 in ")
    assert "who are you?" in second.stdout
    third = call("test", name)
    assert (third.exit_code, third.stdout.startswith("no answer within 5 s in ")) == (1, True)
    sent = [json.loads(each.body)["type"] for each in server.received(place)]
    assert sent[:2] == ["webhook.test", "visit.ended"]
    assert "'visit.paid' is none of" in failure("test", name, "--type", "visit.paid")


def test_a_test_is_the_tenant_s_own_example_or_is_refused(server: MisbehavingServer) -> None:
    place = f"commands-{next(_names)}"
    server.script(place, [])
    name = str(document("create", "--url", server.url(place), "--type", "*", "--tenant", "acme")["id"])
    assert call("test", name, "--type", "subscription.paused").exit_code == 0
    refused = failure("test", name, "--type", "job.finished")
    assert f"'job.finished' is for operators alone, and subscription '{name}' is of tenant 'acme'" in refused
    [sent] = [json.loads(each.body) for each in server.received(place)]
    assert (sent["type"], sent["data"]["tenant"]) == ("subscription.paused", "acme")
    operators = created(server.url(place))
    assert call("test", operators, "--type", "job.finished").exit_code == 0


@pytest.mark.parametrize("pattern", ["job.finished", "job.*"])
def test_a_tenant_cannot_subscribe_to_what_is_for_operators_alone(endpoint: str, pattern: str) -> None:
    asked = ("create", "--url", endpoint, "--type", "visit.ended", "--type", pattern)
    assert f"types: '{pattern}' is for operators alone" in failure(*asked, "--tenant", "acme")
    assert said("list") == "no subscriptions\n"
    operators = str(document(*asked)["id"])
    tenant_s = str(document("create", "--url", endpoint, "--type", "*", "--tenant", "acme")["id"])
    assert f"types: '{pattern}' is for operators alone" in failure("change", tenant_s, "--type", pattern)
    found = document("list", "--type", "job.finished")["subscriptions"]
    assert [each["id"] for each in found] == [operators]
    assert {each["id"] for each in document("list", "--type", "visit.ended")["subscriptions"]} == {operators, tenant_s}


def test_a_new_secret_is_told_once_with_the_end_of_the_old_one(bench: SendingBench, endpoint: str) -> None:
    name = created(endpoint)
    lines = said("rotate", name, "--overlap", "2d").splitlines()
    assert re.fullmatch("secret whsec_[A-Za-z0-9+/=]{44}", lines[0])
    assert lines[1] == "The old one signs too until 2026-11-29 12:00:00Z. It is not shown again."
    assert "secrets      2 sign" in said("show", name)
    assert document("rotate", name, "--overlap", "0h")["old_until"] == "2026-11-27 12:00:00Z"
    bench.clock.passes(seconds=1)
    assert said("rotate", name, "--secret", BROUGHT) == "The old one signs too until 2026-11-28 12:00:01Z.\n"
    assert "is no whole number of hours" in failure("rotate", name, "--overlap", "90m")
    assert "800" in failure("rotate", name, "--overlap", "800h") or "720" in failure(
        "rotate", name, "--overlap", "800h"
    )


def test_it_is_asked_before_a_subscription_is_deleted(endpoint: str) -> None:
    name = created(endpoint)
    result = call("delete", name, stdin="n\n")
    assert result.exit_code == 1
    assert f"Delete {name} of default to {endpoint}, and give up what it is owed?" in result.output
    assert document("show", name)["id"] == name
    assert said("delete", name, "--yes") == f"{name} is deleted; what was owed to it is given up\n"
    assert said("list") == "no subscriptions\n"


def test_what_can_be_subscribed_to_is_listed_with_its_schema() -> None:
    lines = said("event-types").splitlines()
    assert lines[0].split() == ["type", "for", "says", "that"]
    assert any(line.startswith("visit.ended ") for line in lines)
    found = {each["type"]: each for each in document("event-types")["event_types"]}
    assert found["visit.ended"]["example"]["type"] == "visit.ended"
    assert "$defs" in found["visit.ended"]["schema"]
    audiences = {name: each["audience"] for name, each in found.items()}
    assert audiences["visit.ended"] == "everybody"
    assert audiences["subscription.paused"] == "tenant"
    assert audiences["job.finished"] == "operators"


# -- what is not there


@pytest.mark.parametrize("command", ["show", "pause", "resume", "test", "rotate", "delete"])
def test_an_unknown_id_is_said_in_a_line(command: str) -> None:
    assert failure(command, "sub_none") == ("There is no subscription of this id: there is no subscription 'sub_none'")


def test_an_environment_that_sends_no_webhooks_says_so(emulator: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bare(Deployment):
        subscription_services = ()

    monkeypatch.setattr(resources.Deployment, "of", lambda environment: Bare(Aws("local", emulator)))
    assert failure("list") == "environment local sends no webhooks (none of its stacks has a WebhookSender)"


def test_no_answer_is_said_in_a_line(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = resources.SubscriptionService("http://127.0.0.1:9", "table", "secret", "offload-local-clinic", None)
    monkeypatch.setattr(type(deployment), "subscription_services", (gone,))
    assert failure("list").startswith("the API of subscriptions has no answer to GET /subscriptions: ConnectError: ")


def test_a_refusal_of_the_gateway_says_which_permission_is_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("offload.client.job_calls.Signer.signed", lambda self, call, url: dict(call.headers))
    assert failure("list") == (
        "Forbidden: the credentials need execute-api:Invoke on the API of subscriptions, and a clock that is right"
    )


# -- what is no answer of the API's


@pytest.mark.parametrize("status", [202, 206, 301, 302, 303, 304, 307, 308])
def test_a_redirect_before_the_api_has_deleted_and_changed_nothing(server: MisbehavingServer, status: int) -> None:
    server.script(f"api-{status}", then=Answer(status, headers={"Location": "https://login.example/?next=a-secret"}))
    credentials = Credentials("AKIDEXAMPLE", "secret")
    url = server.url(f"api-{status}")
    with SubscriptionsApi(url, credentials=credentials, region="eu-west-1", trust_env=False) as api:
        calls: list[Callable[[], object]] = [lambda: api.delete("sub_1"), lambda: api.pause("sub_1"), api.event_types]
        for each in calls:
            with pytest.raises(Failure, match=f"is not the API of subscriptions: status {status}, .*nothing was done"):
                each()
    assert len(server.received(f"api-{status}")) == len(calls)


def test_the_api_s_trouble_is_said_in_its_words_and_nothing_is_sent_again(server: MisbehavingServer) -> None:
    said = b'{"type":"urn:offload:problem:contended","title":"It is being changed","detail":"ask again"}'
    server.script("api-busy", then=Answer(503, body=said))
    credentials = Credentials("AKIDEXAMPLE", "secret")
    url = server.url("api-busy")
    with SubscriptionsApi(url, credentials=credentials, region="eu-west-1", trust_env=False) as api:
        wish = Wish(url="https://example.com", types=("visit.ended",))
        calls: list[Callable[[], object]] = [lambda: api.delete("sub_1"), lambda: api.create(wish), api.event_types]
        for each in calls:
            with pytest.raises(Refused) as refused:
                each()
            assert (refused.value.slug, str(refused.value)) == ("contended", "It is being changed: ask again")
    assert len(server.received("api-busy")) == len(calls)
