"""What `offload deliveries` says and does: through the real API, on deliveries that a real sender attempted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment, JobService
from offload.cli.jobs import commands as jobs_commands
from offload.cli.main import app
from offload.contracts.jobs.job import State
from offload.contracts.webhooks_out.recovery import Recovered
from offload.runtime.webhooks_out.items import Record, delivery_id
from tests.misbehaving_server import Answer, Gone, Hang, MisbehavingServer
from tests.unit.jobs.job_server import CREDENTIALS, REGION, JobServer, serving_jobs
from tests.unit.webhooks_out.sending_bench import QUICK, SendingBench

pytestmark = pytest.mark.usefixtures("aws_of_module", "deployment")

RUNNER = CliRunner()
_names = iter(range(10_000))


@pytest.fixture
def bench(aws_of_module: None, request: pytest.FixtureRequest) -> Iterator[SendingBench]:
    made = SendingBench(policy=getattr(request, "param", None))
    yield made
    made.close()


def call(*arguments: str, stdin: str | None = None) -> Result:
    """Runs a command; a Failure is the result's exception."""
    return RUNNER.invoke(app, ["deliveries", *arguments], input=stdin)


def said(*arguments: str) -> str:
    result = call(*arguments)
    assert result.exit_code == 0, (result.stdout, result.exception)
    return result.stdout


def document(*arguments: str) -> Any:
    return json.loads(said(*arguments, "--json"))


def failure(*arguments: str) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, Failure), (result.stdout, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def subscribed(bench: SendingBench, server: MisbehavingServer, *steps: Any, **wish: Any) -> Record:
    """A subscription whose endpoint answers by these steps, and 200 after them."""
    place = f"deliveries-{next(_names)}"
    server.script(place, steps)
    return bench.subscribe(server.url(place), **wish)


def name_of(record: Record, event: str) -> str:
    return delivery_id(record.id, "test", event)


def ids(*options: str) -> list[str]:
    return [each["event"] for each in document("list", *options)["deliveries"]]


# -- list


def test_deliveries_are_found_by_everything_that_is_known_of_them(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    first = subscribed(bench, server, tenant="acme")
    second = subscribed(bench, server, Gone(), tenant="blue")
    one = bench.owe(first, type="visit.ended")
    bench.work(first)
    bench.clock.passes(hours=1)
    two = bench.owe(second)
    bench.work(second)
    bench.clock.passes(hours=1)
    three = bench.owe(first, second)
    assert sorted(ids()) == sorted([three, three, two, one])
    assert ids("--subscription", first.id) == [three, one]
    assert ids("--event", two) == [two]
    assert ids("--tenant", "blue") == [three, two]
    assert ids("--type", "visit.ended") == [one]
    assert ids("--state", "given_up") == [two]
    assert ids("--status", "410") == [two]
    assert ids("--status", "200") == [one]
    assert ids("--since", "2026-11-27T13:30Z", "--tenant", "acme") == [three]
    assert ids("--since", "2026-11-27T12:30Z", "--until", "2026-11-27T13:30Z") == [two]
    assert ids("--since", "2026-11-27T12:30Z", "--type", "visit.ended") == []
    assert said("list", "--tenant", "nobody") == "no deliveries\n"


def test_a_list_says_what_became_of_each_and_when_the_next_attempt_is(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server, Answer(503))
    event = bench.owe(record)
    bench.work(record)
    lines = said("list").splitlines()
    assert lines[0].split() == ["id", "owed", "at", "(UTC)", "type", "event", "subscription", "state", "tries"]
    assert re.fullmatch(
        rf"{name_of(record, event)}  2026-11-27 12:00:00  thing.happened  {event}  {record.id}  waiting  1 +"
        r"503, next 2026-11-27 12:00:0\dZ",
        lines[1],
    )
    gone = subscribed(bench, server, Gone())
    bench.owe(gone)
    bench.work(gone)
    assert "given up: gone  1      410" in said("list", "--state", "given_up")


def test_a_list_goes_on_over_pages_until_its_limit(
    bench: SendingBench, server: MisbehavingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("offload.client.subscriptions.MOST_LISTED", 2)
    record = subscribed(bench, server)
    events: list[str] = []
    for _ in range(7):
        events.insert(0, bench.owe(record))
        bench.clock.passes(seconds=1)
    assert ids("--limit", "5") == events[:5]
    assert ids("--limit", "50") == events
    assert said("list", "--limit", "5").splitlines()[-1] == "and maybe older ones: --limit, --since"
    assert document("list", "--limit", "5")["more"] is True
    assert document("list", "--limit", "50") | {"deliveries": []} == {"count": 7, "more": False, "deliveries": []}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--state", "lost"), "--state lost: is none of waiting, delivered, given_up"),
        (("--since", "soon"), "--since: 'soon' is no time: such as"),
        (("--until", "2026-11-27T12:00"), "--until: '2026-11-27T12:00' has no zone"),
        (("--tenant", "a b"), "matching regex"),
    ],
)
def test_what_cannot_be_looked_for_is_said_in_a_line(options: tuple[str, str], told: str) -> None:
    assert told in failure("list", *options)


# -- show


@pytest.mark.parametrize("bench", [QUICK], ids=["quick"], indirect=True)
def test_a_delivery_is_shown_with_every_attempt_and_what_was_sent(
    bench: SendingBench, server: MisbehavingServer
) -> None:
    record = subscribed(bench, server, Answer(500, {"x-trouble": "disk"}, b"full\nvery"), Hang(), tenant="acme")
    event = bench.owe(record, subject="536365", body=b'{"type":"thing.happened","who":"J\xc3\xbcrgen"}')
    bench.work(record)
    bench.clock.passes(minutes=6)
    bench.wake()
    text = said("show", name_of(record, event))
    lines = text.splitlines()
    for line in (
        f"id            {name_of(record, event)}",
        "state         waiting",
        f"event         {event} of test",
        "subject       536365",
        f"subscription  {record.id} of acme",
        "owed since    2026-11-27 12:00:00Z",
        "attempts      2",
        "  x-trouble: disk",
        "  | full",
        "  | very",
        '  "who": "Jürgen"',
    ):
        assert line in lines, text
    assert re.search(r"next attempt +2026-11-27 12:\d\d:\d\dZ", text)
    assert re.search(r"attempt 1  2026-11-27 12:00:00.000Z  \d+ ms  500\n", text)
    assert re.search(r"attempt 2  2026-11-27 12:06:00.000Z  [\d,]+ ms  no answer within 5 s\n", text)
    found = document("show", name_of(record, event))
    assert [each["number"] for each in found["tries"]] == [1, 2]
    assert found["body"] == {"type": "thing.happened", "who": "Jürgen"}


# -- resend, erase


def test_a_delivery_that_has_ended_is_sent_again_under_its_id(bench: SendingBench, server: MisbehavingServer) -> None:
    record = subscribed(bench, server, Gone())
    event = bench.owe(record)
    bench.work(record)
    bench.subscribing.resume(record.id)
    name = name_of(record, event)
    assert said("resend", name) == f"{name} waits for its attempt number 2\n"
    assert failure("resend", name) == (
        "The delivery has not ended: it is sent by its schedule, and not again: "
        f"delivery '{name}' waits for its next attempt"
    )
    bench.wake()
    text = said("show", name)
    assert "state         delivered" in text
    assert "sent again    once" in text


def test_what_was_erased_is_not_shown_and_cannot_be_sent_again(bench: SendingBench, server: MisbehavingServer) -> None:
    record = subscribed(bench, server, Answer(200, body=b"thanks, Jane"))
    event = bench.owe(record, body=b'{"who":"Jane"}')
    bench.work(record)
    name = name_of(record, event)
    assert "Jane" in said("show", name)
    assert said("erase", name) == f"what was sent of event {event}, and what came back, is erased\n"
    text = said("show", name)
    assert "Jane" not in text
    assert "state         delivered" in text
    assert text.splitlines()[-1] == "what was sent is not kept any more, or was erased"
    assert "cannot be sent again" in failure("resend", name)


@pytest.mark.parametrize("command", ["show", "resend", "erase"])
def test_an_unknown_id_is_said_in_a_line(command: str) -> None:
    assert failure(command, "dlv_none").endswith("there is no delivery 'dlv_none'")


# -- recover


class Batches:
    """A job service whose jobs have ended at once, with these results in their order."""

    def __init__(self, server: JobServer) -> None:
        self.server = server
        self.results: list[Recovered | str] = []
        submit = server._submit

        def done(wish: Any, key: str | None) -> Any:
            answer = submit(wish, key)
            result = self.results.pop(0)
            if isinstance(result, str):
                server.end(answer[1].id, State.FAILED, error=result)
            else:
                server.end(answer[1].id, State.SUCCEEDED, result=msgspec.json.encode(result))
            return answer

        server._submit = done  # type: ignore[method-assign]

    def asked(self) -> list[dict[str, Any]]:
        """The inputs of the jobs."""
        return [msgspec.json.decode(body)["input"] for body in self.server.posts("/jobs")]


@pytest.fixture
def batches(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Batches]:
    """The commands pointed at that job service."""
    for name, value in (
        ("AWS_ACCESS_KEY_ID", CREDENTIALS.access_key),
        ("AWS_SECRET_ACCESS_KEY", CREDENTIALS.secret_key),
        ("AWS_REGION", REGION),
        ("NO_PROXY", "127.0.0.1"),
    ):
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(jobs_commands, "_LOOK_EVERY", 0.01)
    with serving_jobs() as server:

        class Found(Deployment):
            subscription_services = deployment.subscription_services

            @property
            def job_service(self) -> JobService:
                return JobService(server.url, "jobs", "files")

        monkeypatch.setattr(resources.Deployment, "of", lambda environment: Found(Aws(environment)))
        yield Batches(server)


def test_the_count_is_said_before_anybody_is_asked_and_nothing_follows_a_no(batches: Batches) -> None:
    batches.results = [Recovered(found=3, done=0, subscriptions=2, gone=1)]
    result = call("recover", "--failed", "--since", "2h", stdin="n\n")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "given up: 3 deliveries of 2 subscriptions\n"
        "and 1 that cannot be sent again: what was sent is not kept any more\n"
    )
    assert "Bring them back? [y/N]" in result.stderr
    assert [each["dry_run"] for each in batches.asked()] == [True]


def test_after_a_yes_the_same_period_is_brought_back(batches: Batches) -> None:
    batches.results = [Recovered(found=1, done=0, subscriptions=1), Recovered(found=1, done=1, subscriptions=1)]
    options = ("--subscription", "sub_1", "--tenant", "acme", "--type", "visit.ended")
    result = call("recover", "--failed", "--since", "2026-11-27T10:00Z", *options, stdin="y\n")
    assert result.stdout.startswith("given up: 1 delivery of 1 subscription\n")
    assert result.stdout.endswith("sent again: 1 delivery\n")
    first, second = batches.asked()
    assert {**second, "dry_run": True} == first
    assert first | {"until": ""} == {
        "action": "failed",
        "since": "2026-11-27T10:00:00Z",
        "until": "",
        "subscription": "sub_1",
        "tenant": "acme",
        "type": "visit.ended",
        "dry_run": True,
    }


def test_what_is_missing_is_brought_back_as_far_as_the_planner_gets(batches: Batches) -> None:
    counted = Recovered(found=5, done=0, subscriptions=2, at_most=7)
    batches.results = [counted, Recovered(found=5, done=4, subscriptions=2, at_most=7)]
    assert said("recover", "--missing", "--since", "1d", "--yes") == (
        "missing: 5 deliveries of 2 subscriptions\n"
        "and at most 7 more, by filter or tenant: only a replay can tell\n"
        "owed now: 4 deliveries\n"
        "still missing: at least 1: offload dead-letters list, or once more in a while\n"
    )


def test_a_count_that_ends_before_the_archive_s_last_minutes_says_so_and_its_period_is_brought_back(
    batches: Batches,
) -> None:
    until = datetime(2026, 11, 27, 10, 50, tzinfo=UTC)
    counted = Recovered(found=1, done=0, subscriptions=1, until=until)
    batches.results = [counted, Recovered(found=1, done=1, subscriptions=1)]
    assert said("recover", "--missing", "--since", "2026-11-27T10:00Z", "--yes") == (
        "missing: 1 delivery of 1 subscription\n"
        "of events until 2026-11-27 10:50:00Z: later ones may not be in the archive yet\n"
        "owed now: 1 delivery\n"
    )
    assert batches.asked()[1]["until"] == "2026-11-27T10:50:00Z"


def test_a_dry_run_and_a_count_of_nothing_end_after_the_count(batches: Batches) -> None:
    batches.results = [Recovered(found=5, done=0, subscriptions=2), Recovered(found=0, done=0, subscriptions=0)]
    assert document("recover", "--failed", "--since", "1d", "--dry-run")["counted"]["found"] == 5
    assert said("recover", "--missing", "--since", "1d", "--yes") == "missing: 0 deliveries\n"
    assert len(batches.asked()) == 2


def test_a_job_that_fails_is_said_in_a_line(batches: Batches) -> None:
    batches.results = ["there is no subscription 'sub_none', or it is not of this tenant"]
    assert failure("recover", "--failed", "--since", "1d").endswith(
        "there is no subscription 'sub_none', or it is not of this tenant"
    )


def test_what_cannot_be_asked_for_is_said_before_a_job_is_submitted(batches: Batches) -> None:
    assert failure("recover", "--since", "1d") == "give one of --failed and --missing"
    assert failure("recover", "--failed", "--missing", "--since", "1d") == "give one of --failed and --missing"
    assert "one subscription's missing" in failure("recover", "--missing", "--since", "1d", "--before-creation")
    assert "'soon' is no time" in failure("recover", "--failed", "--since", "soon")
    assert batches.asked() == []
