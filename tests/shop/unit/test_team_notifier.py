"""What the team is told: words, groups, and a Slack that misbehaves. Nothing is lost, and no more than one a minute."""

from __future__ import annotations

import importlib
import json
import random
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import boto3
import msgspec
import pytest
from botocore.exceptions import ClientError
from hypothesis import given, settings
from hypothesis import strategies as st

from lambdas.team_notifier import groups as groups_module
from lambdas.team_notifier.groups import BETWEEN_MESSAGES, HOLD, LINES, LONGEST_WAIT, Group, Groups
from lambdas.team_notifier.message import (
    BLOCKS_CHARACTERS,
    LINE_CHARACTERS,
    MESSAGE_BLOCKS,
    SECTION_CHARACTERS,
    TEXT_CHARACTERS,
    escaped,
    message_of,
)
from lambdas.team_notifier.outcomes import outcome_of
from lambdas.team_notifier.topics import TOPICS, lines_of
from offload.contracts.calls import CallSettings, variable_of
from offload.contracts.egress import variables
from offload.contracts.events.event import Event
from offload.contracts.jobs.events import JobFinished
from offload.contracts.jobs.job import State
from offload.project import PROJECT
from offload.runtime.http.client import Answer
from offload.runtime.http.failures import (
    CallFailed,
    CircuitOpen,
    NotAnswered,
    OutOfTime,
    RateLimited,
    TooLarge,
    Unsuccessful,
)
from offload.runtime.http.guard import AddressRefused
from shop.catalogue import CATALOGUE
from shop.contracts.stock import StockLow
from tests.calls.plugin import tell
from tests.conftest import new_table
from tests.odd_server import Behaviour, OddServer, answer, flood, hang, odd_server, raw, reset
from tests.patience import queue_without_redelivery

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

AT = datetime(2026, 11, 27, 13, tzinfo=UTC)
LOW: Final = "stock.low"
FAILED: Final = "job.finished"
SHOP: Final = PROJECT / "tests/shop/snapshots/__snapshots__/test_templates/offload-prod-shop.json"
PATH: Final = "/services/T0000/B0000/very-secret-token"


def low(product: str, units: int = 7) -> Event[StockLow]:
    return StockLow(product=product, units=units, low_below=100, cause="order.placed:1", caused_at=AT).event()


def finished(job: str = "job-1", state: State = State.FAILED, error: str | None = "it broke") -> Event[JobFinished]:
    fields: dict[str, Any] = {"job": job, "job_type": "sales_report", "attempts": 3, "finished_at": AT}
    return JobFinished(state=state, error=error, **fields).event()


# -- the words


@pytest.mark.parametrize(
    ("event", "lines"),
    [
        (low("85123A"), {LOW: ["85123A: 7 left, fewer than 100"]}),
        (low("85123A", -3), {LOW: ["85123A: -3 left, fewer than 100"]}),
        (finished(), {FAILED: ["sales_report job-1, after 3 attempts: it broke"]}),
        (finished(error=None), {FAILED: ["sales_report job-1, after 3 attempts: no reason was given"]}),
        (finished(state=State.SUCCEEDED, error=None), {}),
        (finished(state=State.CANCELLED), {}),
    ],
)
def test_each_event_is_one_line_or_no_news(event: Event[Any], lines: dict[str, list[str]]) -> None:
    assert lines_of([event]) == lines


def test_every_topic_is_an_event_type_that_is_published_and_the_stack_listens_to_it() -> None:
    published = {contract.TYPE for contract in CATALOGUE.event_types}
    assert TOPICS.keys() <= published
    template = json.loads(SHOP.read_bytes())["Resources"]
    (rule,) = [
        each for name, each in template.items() if name.startswith("TeamNotifierRule") and "Rule" in each["Type"]
    ]
    assert set(rule["Properties"]["EventPattern"]["detail-type"]) == TOPICS.keys()


# -- the message

HOSTILE = [
    "<!channel> <@U123> <https://evil.example|click>",
    "a & b < c > d",
    "line\none\r\ntwo\u2028three",
    "\u202egnp.exe \x00\x1b[31m",
    "&lt;already&gt;",
]


def texts(message: dict[str, Any]) -> list[str]:
    """Every text of a message's blocks."""
    found = []
    for block in message["blocks"]:
        found += [block["text"]["text"]] if "text" in block else [element["text"] for element in block["elements"]]
    return found


def test_a_group_is_one_message_with_its_number_and_its_first_lines() -> None:
    message = message_of(TOPICS[LOW], Group(12, ("A: 7 left", "B: 3 left"), 0))
    assert message == {
        "text": "Stock is low: 12. A: 7 left",
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": "*Stock is low: 12*", "verbatim": True}},
            {
                "type": "section",
                "text": {"type": "mrkdwn", "text": "• A: 7 left\n• B: 3 left\n… and 10 more", "verbatim": True},
            },
            {
                "type": "context",
                "elements": [{"type": "mrkdwn", "text": "more: offload logs StockLevels", "verbatim": True}],
            },
        ],
    }


@pytest.mark.parametrize(("doubtful", "says"), [(3, "all of these may have been"), (2, "2 of these may have been")])
def test_what_may_have_been_told_before_is_said(doubtful: int, says: str) -> None:
    assert says in texts(message_of(TOPICS[LOW], Group(3, ("A", "B", "C"), 0, doubtful)))[-1]


def test_a_bare_message_has_nothing_of_what_events_say() -> None:
    message = message_of(TOPICS[FAILED], Group(3, ("it <broke>",), 0), bare=True)
    assert "broke" not in json.dumps(message)
    assert texts(message) == ["*Jobs failed: 3*", "more: offload jobs list --state failed"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_stranger_s_text_is_a_line_without_links_and_mentions(text: str) -> None:
    shown = escaped(text)
    assert not {"<", ">", "\n", "\r", "\u2028", "\u202e", "\x1b"} & set(shown)
    assert escaped("a & b <c>") == "a &amp; b &lt;c&gt;"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(st.sampled_from("&<>ab \n*_`"), max_size=1500), max_size=LINES), st.integers(0, 10**9))
def test_whatever_is_said_no_limit_of_slack_s_is_met(lines: list[str], more: int) -> None:
    message = message_of(TOPICS[FAILED], Group(len(lines) + more, tuple(lines), 0, more))
    assert len(message["text"]) <= TEXT_CHARACTERS
    assert len(message["blocks"]) <= MESSAGE_BLOCKS
    assert all(0 < len(text) <= SECTION_CHARACTERS for text in texts(message))
    assert sum(map(len, texts(message))) <= BLOCKS_CHARACTERS
    assert not {"<", ">"} & set(json.dumps(message))


def test_a_long_line_is_cut_between_escapes() -> None:
    shown = escaped("&" * 1000)
    assert len(shown) <= LINE_CHARACTERS
    assert shown.replace("&amp;", "") == "…"


# -- the groups


@dataclass
class Clock:
    """Seconds since 1970, as the test says."""

    now: float = 1_764_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(dynamodb: DynamoDBClient) -> str:
    name = new_table(dynamodb, f"notices-{uuid.uuid4().hex[:10]}", sort_key=False)
    tell(name, "NOTICES_TABLE")
    return name


@pytest.fixture
def groups(table: str, dynamodb: DynamoDBClient, clock: Clock) -> Groups:
    return Groups(table, dynamodb, clock=clock)


def add(groups: Groups, *lines: str, topic: str = LOW) -> None:
    groups._client.transact_write_items(TransactItems=groups.additions({topic: lines}))  # type: ignore[arg-type]


def test_what_came_is_claimed_together_and_nothing_more_for_a_minute(groups: Groups, clock: Clock) -> None:
    assert groups.claim(LOW) is None
    add(groups, "A")
    clock.now += 5
    add(groups, "B", "C")
    claim = groups.claim(LOW)
    assert claim is not None
    assert claim.group == Group(3, ("A", "B", "C"), int((clock.now - 5) * 1000))
    add(groups, "D")
    assert groups.claim(LOW) is None, "another is telling"
    groups.told(claim)
    assert groups.waiting(LOW).lines == ("D",)
    clock.now += BETWEEN_MESSAGES - 0.01
    assert groups.claim(LOW) is None
    clock.now += 0.01
    later = groups.claim(LOW)
    assert later is not None
    assert (later.group.lines, later.group.doubtful) == (("D",), 0)


def test_topics_do_not_wait_for_one_another(groups: Groups) -> None:
    add(groups, "A")
    assert groups.claim(LOW)
    add(groups, "j", topic=FAILED)
    assert groups.claim(FAILED)


def test_only_the_first_lines_are_kept_and_all_are_counted(groups: Groups) -> None:
    for start in range(0, 40, 8):
        add(groups, *(f"{number} " + "x" * 1000 for number in range(start, start + 8)))
    claim = groups.claim(LOW)
    assert claim is not None
    assert claim.group.events == 40
    assert [line.split()[0] for line in claim.group.lines] == [str(number) for number in range(LINES)]
    assert max(map(len, claim.group.lines)) == groups_module.KEPT_CHARACTERS


def test_a_claim_whose_sender_died_is_taken_over_and_told_as_doubtful(groups: Groups, clock: Clock) -> None:
    add(groups, "A", "B")
    first = groups.claim(LOW)
    assert first is not None
    add(groups, "C")
    clock.now += HOLD
    second = groups.claim(LOW)
    assert second is not None
    assert (second.group.events, second.group.lines, second.group.doubtful) == (3, ("A", "B", "C"), 2)
    groups.told(first)
    assert groups.waiting(LOW).events == 3, "the dead one's word counts no more"
    groups.told(second)
    assert groups.waiting(LOW).events == 0


def test_an_unknown_outcome_is_told_again_as_doubtful_and_known_ones_are_not(groups: Groups, clock: Clock) -> None:
    add(groups, "A")
    claim = groups.claim(LOW)
    assert claim
    assert groups.not_told(claim) == BETWEEN_MESSAGES
    clock.now += BETWEEN_MESSAGES
    claim = groups.claim(LOW)
    assert claim
    assert (claim.group.doubtful, claim.failures) == (0, 1)
    clock.now += groups.unknown(claim)
    add(groups, "B")
    claim = groups.claim(LOW)
    assert claim
    assert (claim.group.events, claim.group.doubtful) == (2, 1)
    clock.now += groups.not_told(claim)
    claim = groups.claim(LOW)
    assert claim
    assert claim.group.doubtful == 1, "it stays doubtful"
    groups.told(claim)
    clock.now += BETWEEN_MESSAGES
    add(groups, "C")
    claim = groups.claim(LOW)
    assert claim
    assert (claim.group.doubtful, claim.failures) == (0, 0)


def test_the_waits_between_failures_double_up_to_a_quarter_of_an_hour(groups: Groups, clock: Clock) -> None:
    add(groups, "A")
    waits = []
    for _ in range(7):
        claim = groups.claim(LOW)
        assert claim
        waits.append(groups.not_told(claim))
        clock.now += waits[-1] - 0.01
        assert groups.claim(LOW) is None
        clock.now += 0.01
    assert waits == [60, 120, 240, 480, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_what_slack_asks_for_is_waited_for_and_is_no_failure(groups: Groups, clock: Clock) -> None:
    add(groups, "A")
    claim = groups.claim(LOW)
    assert claim
    assert groups.not_told(claim, again_after=3600, counts=False) == 3600
    clock.now += 3599
    assert groups.claim(LOW) is None
    clock.now += 1
    claim = groups.claim(LOW)
    assert claim
    assert claim.failures == 0
    assert groups.not_told(claim, again_after=1) == BETWEEN_MESSAGES, "never more than one a minute"


def test_senders_at_once_send_each_event_once(table: str, clock: Clock) -> None:
    def work(number: int) -> list[str]:
        own = Groups(table, boto3.client("dynamodb"), clock=clock)
        said = []
        for step in range(10):
            for _ in range(50):
                try:
                    add(own, f"{number}-{step}")
                except own._client.exceptions.TransactionCanceledException:
                    continue
                break
            claim = own.claim(LOW)
            if claim is not None:
                said.append(str(claim.group.events))
                own.told(claim)
        return said

    with ThreadPoolExecutor(4) as pool:
        said = [count for counts in pool.map(work, range(4)) for count in counts]
    assert len(said) == 1, "the clock stands"
    clock.now += BETWEEN_MESSAGES
    last = Groups(table, boto3.client("dynamodb"), clock=clock).claim(LOW)
    assert int(said[0]) + (last.group.events if last else 0) == 40


def test_a_refusal_of_the_table_is_no_lost_race(dynamodb: DynamoDBClient) -> None:
    tell("no-such-table", "NOTICES_TABLE")
    with pytest.raises(ClientError):
        Groups("no-such-table", dynamodb).claim(LOW)


# -- what an outcome means

ANSWER = Answer(400, {}, b"invalid_payload \xff" + b"x" * 500)


@pytest.mark.parametrize(
    ("error", "bare", "outcome"),
    [
        (None, False, ("told", None, True, False)),
        (NotAnswered("x", unknown_outcome=False), False, ("not-answered", None, True, False)),
        (NotAnswered("x", unknown_outcome=True), False, ("unknown", None, True, False)),
        (TooLarge("x"), False, ("unknown", None, True, False)),
        (RateLimited("x", timedelta(seconds=5)), False, ("rate-limited", 5, False, False)),
        (CircuitOpen("x", AT + timedelta(seconds=7)), False, ("circuit-open", 7, False, False)),
        (OutOfTime("x"), False, ("out-of-time", BETWEEN_MESSAGES, False, False)),
        (Unsuccessful("x", ANSWER), False, ("refused", BETWEEN_MESSAGES, True, True)),
        (Unsuccessful("x", ANSWER), True, ("refused", LONGEST_WAIT, True, False)),
        (Unsuccessful("x", Answer(404, {}, b"")), False, ("refused", LONGEST_WAIT, True, False)),
        (Unsuccessful("x", Answer(301, {}, b"")), False, ("refused", LONGEST_WAIT, True, False)),
        (Unsuccessful("x", Answer(502, {}, b"")), False, ("unknown", None, True, False)),
        (AddressRefused("loopback", "127.0.0.1", "loopback", "list it"), False, ("refused", LONGEST_WAIT, True, False)),
    ],
)
def test_each_end_of_a_call_means_one_thing(error: CallFailed | None, bare: bool, outcome: tuple[Any, ...]) -> None:
    found = outcome_of(error, bare=bare, now=AT)
    assert (found.name, found.again_after, found.counts, found.bare) == outcome
    assert len(found.detail) < 150


# -- the function and its Slack


class Context:
    """Lambda's context, as far as it is looked at."""

    aws_request_id = "request"

    def __init__(self, millis: int = 30_000) -> None:
        self.millis = millis

    def get_remaining_time_in_millis(self) -> int:
        return self.millis


@dataclass
class Notifier:
    """The function with everything around it."""

    module: Any
    table: str
    secret: str
    slack: OddServer
    clock: Clock
    capture: Any
    lines: list[dict[str, Any]] = field(default_factory=list)

    def queue(self, *events: Event[Any], context: Context | None = None) -> dict[str, Any]:
        """A batch of the queue."""
        records = [
            {
                "messageId": str(number),
                "receiptHandle": "r",
                "body": json.dumps(
                    {
                        "id": str(number),
                        "source": event.source,
                        "detail-type": event.type,
                        "detail": json.loads(event.to_json()),
                    }
                ),
                "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1764000000000"},
            }
            for number, event in enumerate(events)
        ]
        answer: dict[str, Any] = self.module.handler({"Records": records}, context or Context())
        return answer

    def minute(self, seconds: float = BETWEEN_MESSAGES) -> None:
        """The schedule's call, so many seconds later."""
        self.clock.now += seconds
        self.module.handler({}, Context())

    def set_url(self, url: str) -> None:
        boto3.client("secretsmanager").put_secret_value(SecretId=self.secret, SecretString=url)
        self.module.slack._secret = None
        self.module.hook._looked = float("-inf")

    def waiting(self, topic: str = LOW) -> Group:
        return Groups(self.table, boto3.client("dynamodb")).waiting(topic)

    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(request.body) for request in self.slack.received]

    def logged(self, message: str) -> list[dict[str, Any]]:
        """The log lines since the test began that have a message."""
        self.lines += [json.loads(line) for line in self.capture.readouterr().out.splitlines() if line.startswith("{")]
        return [line for line in self.lines if line["message"] == message]


@contextmanager
def a_notifier(
    dynamodb: DynamoDBClient, patch: pytest.MonkeyPatch, clock: Clock, table: str, capture: Any, **calls: Any
) -> Iterator[Notifier]:
    sqs = boto3.client("sqs")
    queues = [queue_without_redelivery(sqs, f"{table}-{name}") for name in ("queue", "dead")]
    secret = boto3.client("secretsmanager").create_secret(Name=f"{table}-slack", SecretString="-")["ARN"]
    shared = new_table(dynamodb, f"{table}-calls", sort_key=False)
    agreed = {"connect_seconds": 1, "read_seconds": 1, "total_seconds": 2, **calls}
    call = CallSettings(table=shared, secret=secret, secret_path=True, attempts=3, **agreed)
    for variable, value in {
        "OFFLOAD_CONSUMER": "TeamNotifier",
        "OFFLOAD_QUEUE_URL": queues[0],
        "OFFLOAD_DEAD_LETTER_QUEUE_URL": queues[1],
        "OFFLOAD_MARKS_TABLE": new_table(dynamodb, f"{table}-marks"),
        "OFFLOAD_CLAIMS_BUCKET": "unused",
        "OFFLOAD_ATTEMPTS": "3",
        "NOTICES_TABLE": table,
        variable_of("slack"): msgspec.json.encode(call).decode(),
        **variables(["127.0.0.0/8"], ["http"], "any"),
    }.items():
        patch.setenv(variable, value)
    patch.delitem(sys.modules, "lambdas.team_notifier.handler", raising=False)
    module = importlib.import_module("lambdas.team_notifier.handler")
    patch.setattr(module, "Groups", lambda name, client: Groups(name, client, clock=clock))
    with odd_server(answer(200, b"ok", {"Content-Type": "text/html"})) as slack:
        found = Notifier(module, table, secret, slack, clock, capture)
        found.set_url(slack.url(PATH))
        yield found
    sys.modules.pop("lambdas.team_notifier.handler", None)


@pytest.fixture
def notifier(
    dynamodb: DynamoDBClient, monkeypatch: pytest.MonkeyPatch, clock: Clock, table: str, capsys: Any
) -> Iterator[Notifier]:
    with a_notifier(dynamodb, monkeypatch, clock, table, capsys) as found:
        yield found


def test_the_first_event_of_a_quiet_topic_is_told_at_once_and_what_follows_a_minute_later(notifier: Notifier) -> None:
    assert notifier.queue(low("A"), low("B")) == {"batchItemFailures": []}
    notifier.queue(low("C"))
    notifier.queue(low("D"), low("E"), low("A"))
    assert len(notifier.slack.received) == 1
    notifier.minute(59)
    assert len(notifier.slack.received) == 1
    notifier.minute(1)
    notifier.minute()
    first, second = notifier.bodies()
    assert (first["text"], second["text"]) == (
        "Stock is low: 2. A: 7 left, fewer than 100",
        "Stock is low: 3. C: 7 left, fewer than 100",
    )
    request = notifier.slack.received[0]
    assert (request.method, request.path) == ("POST", PATH)
    assert request.headers["content-type"] == "application/json"
    assert notifier.waiting().events == 0


def test_each_topic_has_a_message_of_its_own_and_what_is_no_news_has_none(notifier: Notifier) -> None:
    notifier.queue(low("A"), finished("job-1"), finished("job-2", State.SUCCEEDED, None))
    assert [body["text"].partition(".")[0] for body in notifier.bodies()] == ["Stock is low: 1", "Jobs failed: 1"]
    notifier.queue(finished("job-3", State.SUCCEEDED, None))
    assert len(notifier.slack.received) == 2


def test_an_event_that_comes_again_is_told_once(notifier: Notifier) -> None:
    for _ in range(3):
        notifier.queue(low("A"), low("A"))
        notifier.minute()
    assert [body["text"] for body in notifier.bodies()] == ["Stock is low: 1. A: 7 left, fewer than 100"]


def test_no_line_of_the_log_has_the_hook_s_address_or_what_an_event_says(notifier: Notifier) -> None:
    notifier.slack.script += [answer(200), answer(500), reset(), answer(404, b"no_service")]
    for number in range(5):
        notifier.queue(finished(f"job-{number}", error="the customer's name"))
        notifier.minute(LONGEST_WAIT)
    notifier.logged("")
    text = json.dumps(notifier.lines)
    assert "outcome" in text
    for secret in ("very-secret-token", "/services/", "customer's name"):
        assert secret not in text


@pytest.mark.parametrize(
    ("act", "outcome", "wait", "doubtful"),
    [
        (hang(), "unknown", 60, 1),
        (reset(), "unknown", 60, 1),
        (raw(b"220 mail.example ESMTP ready\r\n"), "unknown", 60, 1),
        (flood(), "unknown", 60, 1),
        (answer(200, b"o", length=100), "unknown", 60, 1),
        (answer(500, b"rollup_error"), "unknown", 60, 1),
        (answer(503, b""), "unknown", 60, 1),
        (answer(429, b"rate_limited", {"Retry-After": "30"}), "rate-limited", 60, 0),
        (answer(429, b"rate_limited", {"Retry-After": "300"}), "rate-limited", 300, 0),
        (answer(429, b"rate_limited", {"Retry-After": "soon"}), "rate-limited", 60, 0),
        (answer(429, b"rate_limited"), "rate-limited", 60, 0),
        (answer(403, b"action_prohibited"), "refused", 900, 0),
        (answer(404, b"channel_not_found"), "refused", 900, 0),
        (answer(410, b"channel_is_archived"), "refused", 900, 0),
        (answer(302, b"", {"Location": "http://127.0.0.1:1/other"}), "refused", 900, 0),
    ],
)
def test_whatever_slack_does_the_group_is_told_later_whole_and_it_says_what_is_doubtful(
    notifier: Notifier, act: Behaviour, outcome: str, wait: float, doubtful: int
) -> None:
    notifier.slack.script.append(act)
    assert notifier.queue(low("A")) == {"batchItemFailures": []}
    assert [line["outcome"] for line in notifier.logged("message")] == [outcome]
    notifier.queue(low("B"))
    notifier.minute(wait - 1)
    assert len(notifier.slack.received) == 1, "it is left in peace"
    notifier.minute(1)
    assert len(notifier.slack.received) == 2
    body = notifier.bodies()[1]
    assert body["text"] == "Stock is low: 2. A: 7 left, fewer than 100"
    assert ("may have been told before" in json.dumps(body)) is bool(doubtful)
    assert notifier.waiting().events == 0


def test_a_slack_that_is_down_gets_one_message_when_it_is_back(notifier: Notifier) -> None:
    port = notifier.slack.port
    notifier.set_url(f"http://127.0.0.1:{1 if port != 1 else 2}{PATH}")
    for number in range(30):
        notifier.queue(low(str(number)))
        notifier.minute()
    outcomes = Counter(line["outcome"] for line in notifier.logged("message"))
    assert outcomes.keys() == {"not-answered", "circuit-open"}
    assert outcomes["not-answered"] < 10, "it is left in peace"
    notifier.set_url(notifier.slack.url(PATH))
    # Its breaker opens on the real clock, the waits are the test's.
    notifier.module.slack._breaker = None
    notifier.minute(LONGEST_WAIT)
    assert [body["text"].partition(".")[0] for body in notifier.bodies()] == ["Stock is low: 30"]
    assert "may have been" not in json.dumps(notifier.bodies())


def test_a_message_that_slack_cannot_take_is_told_without_its_lines(notifier: Notifier) -> None:
    notifier.slack.script += [answer(400, b"invalid_payload"), answer(400, b"invalid_payload")]
    notifier.queue(low("A"), low("B"))
    notifier.minute(60)
    notifier.minute(LONGEST_WAIT)
    assert [body["text"] for body in notifier.bodies()] == [
        "Stock is low: 2. A: 7 left, fewer than 100",
        "Stock is low: 2.",
        "Stock is low: 2.",
    ]
    notifier.queue(low("C"))
    notifier.minute()
    assert notifier.bodies()[-1]["text"] == "Stock is low: 1. C: 7 left, fewer than 100"


@pytest.mark.parametrize("value", ["-", "", " ", "xoxb-not-a-url", '{"url": "x"}', '{"unset":"!x"}'])
def test_without_a_url_everything_is_kept_and_the_log_says_so_without_a_storm(notifier: Notifier, value: str) -> None:
    notifier.set_url(value or " ")
    reads: list[str] = []
    real = notifier.module.slack.secret

    def secret(*, fresh: bool = False) -> Any:
        reads.append("fresh" if fresh else "kept")
        return real(fresh=fresh)

    notifier.module.slack.secret = secret
    for number in range(20):
        assert notifier.queue(low(str(number))) == {"batchItemFailures": []}
    assert reads.count("fresh") == 1
    (warned,) = notifier.logged("no hook")
    assert warned["level"] == "WARNING"
    assert "offload integrations credentials slack" in warned["outcome"]
    assert notifier.slack.received == []
    assert notifier.waiting().events == 20
    notifier.minute()
    assert "oldest_seconds" not in notifier.logged("waiting")[-1], "nobody is to be woken for it"
    notifier.set_url(notifier.slack.url(PATH))
    notifier.minute()
    assert notifier.bodies()[0]["text"].startswith("Stock is low: 20.")


def test_a_url_that_was_replaced_serves_at_the_next_try(notifier: Notifier) -> None:
    notifier.slack.script.append(answer(404, b"no_service"))
    notifier.queue(low("A"))
    boto3.client("secretsmanager").put_secret_value(SecretId=notifier.secret, SecretString=notifier.slack.url("/new"))
    notifier.minute(LONGEST_WAIT)
    assert [request.path for request in notifier.slack.received] == [PATH, "/new"]


def test_a_url_that_must_not_be_called_is_refused_and_everything_kept(notifier: Notifier) -> None:
    notifier.set_url("http://169.254.169.254/latest/meta-data")
    notifier.queue(low("A"))
    (line,) = notifier.logged("message")
    assert (line["outcome"], line["level"]) == ("refused", "ERROR")
    assert "metadata" in line["detail"]
    assert notifier.waiting().events == 1


def test_each_minute_it_says_what_waits_and_for_how_long(notifier: Notifier) -> None:
    notifier.minute()
    assert notifier.logged("waiting")[-1]["events"] == {}
    assert "oldest_seconds" not in notifier.logged("waiting")[-1], "a metric without a value costs nothing"
    notifier.slack.script.append(answer(404, b"no_service"))
    notifier.queue(low("A"))
    notifier.minute()
    assert notifier.logged("waiting")[-1]["events"] == {LOW: 1}
    assert notifier.logged("waiting")[-1]["oldest_seconds"] > 0


def test_with_too_little_time_left_nothing_is_sent_and_nothing_lost(notifier: Notifier) -> None:
    notifier.queue(low("A"), context=Context(900))
    assert notifier.logged("message")[-1]["outcome"] == "out-of-time"
    assert notifier.slack.received == []
    notifier.minute()
    assert len(notifier.slack.received) == 1
    assert "may have been" not in json.dumps(notifier.bodies())


def test_a_table_that_fails_while_telling_does_not_bring_the_batch_back(notifier: Notifier) -> None:
    def fail(_self: Groups, topic: str) -> bool:
        raise ClientError({"Error": {"Code": "InternalServerError", "Message": "x"}}, "GetItem")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Groups, "due", fail)
        assert notifier.queue(low("A")) == {"batchItemFailures": []}
        with pytest.raises(ClientError):
            notifier.minute()
    notifier.minute()
    assert len(notifier.slack.received) == 1


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("when", ["before-call", "after-call"])
@pytest.mark.parametrize("call", ["TransactWriteItems", "UpdateItem 1", "UpdateItem 2", "POST"])
def test_killed_anywhere_every_event_is_told_and_twice_only_with_that_said(
    notifier: Notifier, call: str, when: str
) -> None:
    client: Any = notifier.module.aws.dynamodb()
    seen = [0]

    def die(**_: Any) -> None:
        seen[0] += 1
        if call.endswith(str(seen[0])) or not call[-1].isdigit():
            raise Killed

    name = f"{when}.dynamodb.{call.partition(' ')[0]}"
    real = notifier.module.slack.post
    if call == "POST":

        def post(*arguments: Any, **named: Any) -> Any:
            if when == "after-call":
                real(*arguments, **named)
            raise Killed

        notifier.module.slack.post = post
    else:
        client.meta.events.register(name, die, unique_id="die")
    with pytest.raises(Killed):
        notifier.queue(low("A"), low("B"))
    if call == "POST":
        notifier.module.slack.post = real
    else:
        client.meta.events.unregister(name, unique_id="die")
    # The queue brings the batch again: its messages were not deleted.
    notifier.queue(low("A"), low("B"))
    notifier.minute(HOLD)
    bodies = notifier.bodies()
    assert bodies[-1]["text"] == "Stock is low: 2. A: 7 left, fewer than 100"
    for again in bodies[1:]:
        assert "may have been told before" in json.dumps(again)
    assert len(bodies) == (2 if (call, when) in {("POST", "after-call"), ("UpdateItem 2", "before-call")} else 1)
    assert notifier.waiting().events == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_through_a_slack_that_does_anything_each_event_is_told_and_never_twice_within_a_minute(
    notifier: Notifier, seed: int
) -> None:
    choice = random.Random(seed)
    troubles = [answer(429, b"", {"Retry-After": "120"}), answer(500), reset(), answer(200, b"o", length=9)]
    troubles += [answer(404), answer(400)]
    times: list[float] = []

    def note() -> None:
        times.extend([notifier.clock.now] * (len(notifier.slack.received) - len(times)))

    for number in range(60):
        if not notifier.slack.script and choice.random() < 0.4:
            notifier.slack.script.append(choice.choice(troubles))
        # What its breaker keeps away would be no test of the rest.
        notifier.module.slack._breaker = None
        notifier.queue(low(str(number)))
        note()
        notifier.minute(choice.uniform(1, 120))
        note()
    notifier.slack.script.clear()
    notifier.minute(LONGEST_WAIT)
    assert sum(line["events"] for line in notifier.logged("message") if line["outcome"] == "told") == 60
    assert notifier.waiting().events == 0
    assert len(times) > 10
    assert min(later - earlier for earlier, later in pairwise(times)) >= BETWEEN_MESSAGES - 0.01
