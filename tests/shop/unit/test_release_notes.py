"""The change log that GitHub's webhooks make: real payloads, in every order, twice, at once, and hostile ones."""

from __future__ import annotations

import importlib
import json
import random
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from markdown_it import MarkdownIt
from msgspec import Raw

from lambdas.release_notes.changes import Entry, change_of
from lambdas.release_notes.log import ChangeLog, Contended
from lambdas.release_notes.page import link, page_of, plain
from offload.cli.deployment.failure import Failure
from offload.cli.schemas.schemas import schema_of
from offload.contracts.events.event import BrokenContract, Event, by_type, read_envelope
from offload.contracts.webhooks_in.received import WebhookReceived, received_type
from offload.project import PROJECT
from offload.runtime import aws
from shop.catalogue import CATALOGUE
from shop.change_log import page_key
from shop.commands.change_log import page_in, pages_in
from tests.calls.plugin import tell
from tests.conftest import new_table
from tests.patience import queue_without_redelivery

if TYPE_CHECKING:
    from markdown_it.token import Token
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

EXAMPLES = PROJECT / "node_modules/@octokit/webhooks-examples/api.github.com/index.json"
CONTRACTS = by_type(CATALOGUE.event_types)
CAME = datetime(2026, 11, 27, 9, tzinfo=UTC)

Payload = dict[str, Any]


def examples(name: str) -> list[Payload]:
    """GitHub's examples of one webhook."""
    found: list[Payload] = next(each["examples"] for each in json.loads(EXAMPLES.read_bytes()) if each["name"] == name)
    return found


def changed(payload: Payload, /, action: str | None = None, **fields: Any) -> Payload:
    """A real payload with other values in its release or pull request."""
    copy: Payload = json.loads(json.dumps(payload))
    copy["release" if "release" in copy else "pull_request"].update(fields)
    return copy if action is None else copy | {"action": action}


def received(payload: Payload, *, after: float = 0, kind: str | None = None) -> Event[WebhookReceived]:
    """The event that the receiver makes of a payload which came so many seconds after the first."""
    body = json.dumps(payload).encode()
    name = received_type(
        "github", kind or f"{'release' if 'release' in payload else 'pull_request'}.{payload['action']}"
    )
    contract: Any = CONTRACTS.get(name, WebhookReceived)
    digest = sha256(body).hexdigest()
    data = contract(
        provider="github",
        event_type=name,
        delivery_id=f"delivery-{digest[:8]}",
        delivery_id_signed=False,
        scheme="github",
        key_id="k1",
        body_sha256=digest,
        received_at=CAME + timedelta(seconds=after),
        payload=Raw(body),
    )
    event: Event[WebhookReceived] = data.event()
    return event


PUBLISHED = changed(examples("release")[10], "published")
CLOSED = next(each for each in examples("pull_request") if each["action"] == "closed")


def release(number: int, action: str = "published", *, updated: str | None = None, **fields: Any) -> Payload:
    """One of several releases."""
    said = {"id": number, "tag_name": f"1.{number}.0", "updated_at": updated, **fields}
    return changed(PUBLISHED, action, **said)


def merged(number: int, at: str, **fields: Any) -> Payload:
    """One of several merged pull requests."""
    url = f"https://github.com/Codertocat/Hello-World/pull/{number}"
    said = {"id": 1000 + number, "number": number, "merged": True, "merged_at": at, "html_url": url, **fields}
    return changed(CLOSED, **said)


class Bench:
    """A log in the embedded AWS."""

    def __init__(self, dynamodb: DynamoDBClient, s3: S3Client) -> None:
        self.dynamodb, self.s3 = dynamodb, s3
        name = f"change-log-{uuid.uuid4().hex[:12]}"
        self.table, self.bucket = new_table(dynamodb, name), name
        s3.create_bucket(Bucket=name)
        tell(name, "CHANGE_LOG_TABLE")
        tell(name, "CHANGE_LOG_BUCKET")
        self.log = ChangeLog(self.table, self.bucket, dynamodb=dynamodb, s3=s3)

    def take(self, *events: Event[WebhookReceived]) -> None:
        for event in events:
            change = change_of(event.data)
            if change is not None:
                self.log.take(change)

    def pages(self) -> dict[str, str]:
        months = [page["month"] for page in pages_in(self.bucket, self.s3)]
        return {month: page_in(self.bucket, month, self.s3)["markdown"] for month in months}


@pytest.fixture
def s3(aws_environment: None) -> S3Client:
    return boto3.client("s3")


@pytest.fixture
def bench(dynamodb: DynamoDBClient, s3: S3Client) -> Bench:
    return Bench(dynamodb, s3)


HISTORY = [
    release(1, published_at="2026-10-30T10:00:00Z", updated="2026-10-30T10:00:00Z", body="First."),
    release(1, "edited", published_at="2026-10-30T10:00:00Z", updated="2026-11-02T10:00:00Z", body="Mended."),
    release(2, published_at="2026-10-31T23:59:59Z", updated="2026-10-31T23:59:59Z"),
    release(2, "unpublished", published_at=None, draft=True, updated="2026-11-01T08:00:00Z"),
    release(2, published_at="2026-11-01T09:00:00Z", updated="2026-11-01T09:00:00Z", name="Two, again"),
    release(3, "prereleased", published_at="2026-11-03T09:00:00Z", prerelease=True, updated="2026-11-03T09:00:00Z"),
    release(3, "released", published_at="2026-11-03T09:00:00Z", updated="2026-11-04T09:00:00Z"),
    release(4, published_at="2026-11-05T09:00:00Z", updated="2026-11-05T09:00:00Z"),
    release(4, "deleted", published_at="2026-11-05T09:00:00Z", updated="2026-11-05T09:00:00Z"),
    release(5, "created", published_at=None, draft=True, updated="2026-11-06T09:00:00Z"),
    merged(7, "2026-11-02T12:00:00Z", title="Seven"),
    merged(8, "2026-11-01T00:00:00Z", title="Eight"),
]
# Each came a second after the one before it, whatever the bus then makes of it.
EVENTS = [received(payload, after=number) for number, payload in enumerate(HISTORY)]


def test_a_month_reads_in_the_order_of_time_and_has_of_each_release_what_was_said_last(bench: Bench) -> None:
    bench.take(*EVENTS)
    pages = bench.pages()
    assert list(pages) == ["2026-10", "2026-11"]
    assert "Mended." in pages["2026-10"]
    assert "First." not in pages["2026-10"]
    assert "1.2.0" not in pages["2026-10"], "it was published again in another month"
    lines = [line for line in pages["2026-11"].splitlines() if line.startswith(("## ", "- "))]
    assert [line.partition("](")[0] for line in lines] == [
        "## 2026-11-01",
        "- 00:00 **Merged** [Codertocat/Hello-World #8: Eight",
        "- 09:00 **Release** [Codertocat/Hello-World 1.2.0: Two, again",
        "## 2026-11-02",
        "- 12:00 **Merged** [Codertocat/Hello-World #7: Seven",
        "## 2026-11-03",
        "- 09:00 **Release** [Codertocat/Hello-World 1.3.0",
    ]


@pytest.mark.parametrize("seed", range(6))
def test_any_order_and_every_event_twice_make_the_same_pages(bench: Bench, seed: int) -> None:
    shuffled = EVENTS * 2
    random.Random(seed).shuffle(shuffled)
    bench.take(*shuffled)
    other = Bench(bench.dynamodb, bench.s3)
    other.take(*EVENTS)
    assert bench.pages() == other.pages()


@pytest.mark.parametrize("seed", range(3))
def test_githubs_own_examples_in_any_order_and_twice_make_the_same_page(bench: Bench, seed: int) -> None:
    payloads = [*examples("release"), *examples("pull_request")]
    assert len(payloads) == 42
    events = [received(payload, after=number) for number, payload in enumerate(payloads)] * 2
    random.Random(seed).shuffle(events)
    bench.take(*events)
    # All 13 are about one release, which two of them delete; no pull request among them was merged.
    assert bench.pages() == {"2019-05": "# Change log: May 2019\n\nNothing.\n"}


@pytest.mark.parametrize("seed", range(3))
def test_githubs_examples_make_one_entry_while_the_release_is_not_deleted(bench: Bench, seed: int) -> None:
    payloads = [each for each in examples("release") if each["action"] != "deleted"]
    events = [received(payload, after=number) for number, payload in enumerate(payloads)] * 2
    random.Random(seed).shuffle(events)
    bench.take(*events)
    assert bench.pages() == {
        "2019-05": "# Change log: May 2019\n\n## 2019-05-15\n\n"
        "- 15:20 **Release** [Codertocat/Hello-World 0.0.1]"
        "(https://github.com/Codertocat/Hello-World/releases/tag/0.0.1) by Codertocat\n"
    }


def test_a_release_that_moves_to_another_month_leaves_the_old_one(bench: Bench) -> None:
    early = release(1, published_at="2026-10-30T10:00:00Z", updated="2026-10-30T10:00:00Z")
    late = release(1, "edited", published_at="2026-11-02T10:00:00Z", updated="2026-11-02T10:00:00Z")
    bench.take(received(early))
    assert "1.1.0" in bench.pages()["2026-10"]
    bench.take(received(late), received(early))
    assert "1.1.0" in bench.pages()["2026-11"]
    assert bench.pages()["2026-10"] == "# Change log: October 2026\n\nNothing.\n"


def test_what_was_deleted_stays_deleted_whatever_time_a_later_webhook_has(bench: Bench) -> None:
    newer = release(1, "edited", updated="2030-01-01T00:00:00Z")
    bench.take(received(release(1, "deleted", updated="2026-11-01T00:00:00Z")), received(newer, after=60))
    assert "Nothing." in bench.pages()["2019-05"]


def test_without_githubs_time_what_came_later_counts(bench: Bench) -> None:
    first, second = (received(release(1, "edited", body=f"Text {n}."), after=n) for n in (1, 2))
    bench.take(second, first)
    assert "Text 2." in bench.pages()["2019-05"]


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("call", ["GetItem", "TransactWriteItems", "GetObject", "Query", "PutObject"])
@pytest.mark.parametrize("when", ["before-call", "after-call"])
def test_a_crash_anywhere_is_mended_by_the_retry(bench: Bench, call: str, when: str) -> None:
    early = release(1, published_at="2026-10-30T10:00:00Z", updated="2026-10-30T10:00:00Z")
    late = release(1, "edited", published_at="2026-11-02T10:00:00Z", updated="2026-11-02T10:00:00Z")
    bench.take(received(early))
    client: Any = bench.s3 if call.endswith("Object") else bench.dynamodb
    service = "s3" if call.endswith("Object") else "dynamodb"

    def die(**_: Any) -> None:
        raise Killed

    client.meta.events.register(f"{when}.{service}.{call}", die, unique_id="die")
    with pytest.raises(Killed):
        bench.take(received(late))
    client.meta.events.unregister(f"{when}.{service}.{call}", unique_id="die")
    bench.take(received(late))
    assert bench.pages()["2026-10"].endswith("Nothing.\n")
    assert "1.1.0" in bench.pages()["2026-11"]


def test_writers_of_one_month_at_once_lose_nothing(bench: Bench) -> None:
    number = 24
    gate = threading.Barrier(4)

    def write(numbers: Sequence[int]) -> None:
        log = ChangeLog(bench.table, bench.bucket, dynamodb=boto3.client("dynamodb"), s3=boto3.client("s3"))
        gate.wait()
        for each in numbers:
            change = change_of(received(merged(each, f"2026-11-{each + 1:02}T00:00:00Z", title="t")).data)
            assert change is not None
            for _ in range(5):  # as the queue would
                with suppress(Contended):
                    log.take(change)
                    break

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, [range(start, number, 4) for start in range(4)]))
    page = bench.pages()["2026-11"]
    assert [f"#{each}: t]" in page for each in range(number)] == [True] * number


def test_two_versions_of_one_release_at_once_leave_the_newer(bench: Bench) -> None:
    versions = [release(1, "edited", updated=f"2026-11-02T10:00:{n:02}Z", body=f"Text {n}.") for n in range(8)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda payload: bench.take(received(payload)), versions))
    assert "Text 7." in bench.pages()["2019-05"]


def test_a_page_that_was_read_before_a_newer_one_came_and_went_is_put_right(bench: Bench) -> None:
    """The ETag is the same again then, so S3 lets the old writer through."""
    first, gone = received(release(1)), received(release(1, "deleted"), after=1)
    other = received(release(2, "unpublished", draft=True))
    bench.take(other)  # the page is there, and empty
    deleted = threading.Event()

    def interrupt(**_: Any) -> None:
        if not deleted.is_set():
            deleted.set()
            between = ChangeLog(bench.table, bench.bucket, dynamodb=boto3.client("dynamodb"), s3=boto3.client("s3"))
            for event in (first, gone):
                change = change_of(event.data)
                assert change is not None
                between.take(change)

    bench.s3.meta.events.register("before-call.s3.PutObject", interrupt)
    bench.take(first)
    assert deleted.is_set()
    assert bench.pages()["2019-05"].endswith("Nothing.\n")


def test_a_writer_that_was_overtaken_and_dies_leaves_the_newer_page(bench: Bench) -> None:
    def overtake(**_: Any) -> None:
        between = ChangeLog(bench.table, bench.bucket, dynamodb=boto3.client("dynamodb"), s3=boto3.client("s3"))
        change = change_of(received(release(2)).data)
        assert change is not None
        between.take(change)

    def die(**_: Any) -> None:
        raise Killed

    # It has read the entries, and the other's are not among them.
    bench.s3.meta.events.register("before-call.s3.PutObject", overtake)
    bench.s3.meta.events.register("after-call.s3.PutObject", die)
    with pytest.raises(Killed):
        bench.take(received(release(1)))
    assert "1.2.0" in bench.pages()["2019-05"]


# -- what strangers write

COMMONMARK = MarkdownIt("commonmark").enable(["table", "strikethrough"])
URL = "https://github.com/Codertocat/Hello-World/releases/tag/0.0.1"
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](https://evil.example/pixel.png)",
    "](https://evil.example) [x",
    "\\](https://evil.example)",
    "<https://evil.example>",
    "a\n\n# Heading\n\n- item",
    "a\r\n<!-- comment -->\r\n</ul><h1>",
    "`code` ``code`` ```",
    "**bold** __bold__ *i* _i_ ~~gone~~",
    "| a | b |\n| - | - |",
    "x\n===\ny\n---",
    "[ref]: https://evil.example",
    "&lt;script&gt; &#60;b&#62; &copy;",
    "\u202egnp.exe \u2028next\u2029 \x1b[31mred\x00",
    "1. one\n2) two\n+ three\n> quote\n    code\n\tcode",
    "trailing \\",
    "https://evil.example www.evil.example @everyone me@evil.example",
    "$x$ :smile: #12",
]


def entry(**fields: Any) -> Entry:
    return msgspec.structs.replace(
        Entry(at=CAME, kind="Release", repository="o/r", name="1", url=URL, by="someone"), **fields
    )


def tokens(markdown: str) -> Iterator[Token]:
    for token in COMMONMARK.parse(markdown):
        yield token
        yield from token.children or ()


def assert_harmless(markdown: str, words: str | None = None) -> None:
    """No HTML, no image, no code, one heading for the month and one for the day, no link but GitHub's."""
    found = list(tokens(markdown))
    kinds = {token.type for token in found}
    assert not kinds & {"html_block", "html_inline", "image", "code_inline", "code_block", "fence", "hr", "table_open"}
    assert [token.tag for token in found if token.type == "heading_open"] == ["h1", "h2"]
    assert {token.attrs["href"] for token in found if token.type == "link_open"} <= {URL}
    assert not [character for character in markdown if character != "\n" and ord(character) < 32]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_shown_and_breaks_nothing(text: str) -> None:
    page = page_of("2026-11", [entry(title=text, name=text, repository=text, by=text, body=text), entry(title="after")])
    assert_harmless(page)
    assert page.splitlines()[-1].endswith("[o/r 1: after](" + URL + ") by someone")
    (shown,) = [token for token in tokens(plain(f"x {text}")) if token.type == "inline"]
    said = "".join(token.content for token in shown.children or ()).replace("\u2060", "")
    kept = "".join(c for c in text if c not in "\u202e").replace("\x00", " ").replace("\x1b", " ")
    assert said == " ".join(f"x {kept}".split())


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60), st.lists(st.text(st.sampled_from("#-+*=>`~<>[]()!\\_|1.: ab&@\n\t"), max_size=12)))
def test_whatever_is_written_the_page_keeps_its_form(title: str, body: list[str]) -> None:
    page = page_of("2026-11", [entry(title=title, body="\n".join(body)), entry(title=title, by="".join(body)[:50])])
    assert_harmless(page)


@pytest.mark.parametrize("address", ["https://evil.example", "www.evil.example", "me@evil.example", "@everyone"])
def test_bare_addresses_and_names_become_no_links(address: str) -> None:
    assert "\u2060" in plain(address)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (URL, URL),
        ("https://github.com/o/r/releases/tag/v1(2)", "https://github.com/o/r/releases/tag/v1%282%29"),
        ('https://x.example/"><script>', "https://x.example/%22%3E%3Cscript%3E"),
        ("https://x.example/a b\n(c", "https://x.example/a%20b%0A%28c"),
        ("javascript:alert(1)", None),
        ("data:text/html,x", None),
        ("//x.example", None),
        ("https://", None),
        ("https://[", None),
        ("", None),
    ],
)
def test_a_link_leads_to_a_web_page_or_is_none(url: str, target: str | None) -> None:
    assert link("t", url) == ("t" if target is None else f"[t]({target})")


def test_notes_keep_their_bullets_and_headings_and_lose_comments() -> None:
    body = "<!-- made by a machine -->\r\n## What's Changed\r\n* One by @a in #1\r\n* Two\r\n\r\n**Full**: x\r\n"
    page = page_of("2026-11", [entry(body=body)])
    assert page.splitlines()[6:] == [
        "  > **What's Changed**",
        "  >",
        "  > - One by @\u2060a in #1",
        "  > - Two",
        "  >",
        "  > \\*\\*Full\\*\\*: x",
    ]


def test_long_texts_are_cut() -> None:
    page = page_of("2026-11", [entry(body="line\n" * 1000)])
    assert page.rstrip().endswith("> …")
    change = change_of(received(release(1, name="n" * 9000, body="b" * 100_000)).data)
    assert change is not None
    assert change.entry is not None
    assert (len(change.entry.title), len(change.entry.body)) == (300, 4000)


# -- what payloads may hold


@pytest.mark.parametrize(
    "payload",
    [
        changed(CLOSED),
        changed(CLOSED, merged_at=None, merged=False),
        merged(1, "2026-11-01T00:00:00Z") | {"action": "opened"},
        {"action": "closed"},
        {"action": "closed", "release": None, "pull_request": None},
    ],
)
def test_what_is_no_release_and_was_not_merged_changes_nothing(payload: Payload) -> None:
    assert change_of(received(payload, kind="pull_request.closed").data) is None


def test_nulls_and_unknown_fields_are_taken() -> None:
    nulls = {"id": 1, "published_at": "2026-11-01T00:00:00", "draft": None, "author": None, "new": {"field": [1]}}
    payload = {"action": "published", "release": nulls | {"name": None, "tag_name": None, "html_url": None}, "x": 1}
    change = change_of(received(payload).data)
    assert change is not None
    assert change.entry == Entry(at=datetime(2026, 11, 1, tzinfo=UTC), kind="Release", repository="", name="")


@pytest.mark.parametrize("release_", [{"id": "one"}, {}, [], {"id": 1, "published_at": "yesterday"}])
def test_a_payload_of_another_form_breaks_the_contract_and_says_where(release_: object) -> None:
    with pytest.raises(BrokenContract, match=r"payload: .*release"):
        change_of(received({"action": "published", "release": release_}).data)


def test_the_month_is_that_of_utc(bench: Bench) -> None:
    bench.take(received(release(1, published_at="2026-11-01T01:00:00+02:00")))
    assert list(bench.pages()) == ["2026-10"]


def test_a_webhooks_event_is_valid_by_its_schema_and_comes_back_whole() -> None:
    for payload in examples("release"):
        event = received(payload)
        Draft202012Validator(schema_of(type(event.data))).validate(json.loads(event.to_json())["data"])
        again = read_envelope(event.to_json()).event(CONTRACTS)
        assert isinstance(again.data, WebhookReceived)
        assert json.loads(bytes(again.data.payload)) == payload  # type: ignore[arg-type]


# -- the function


def test_the_function_takes_a_batch_and_gives_up_at_once_on_what_it_cannot_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqs = boto3.client("sqs")
    queues = [queue_without_redelivery(sqs, f"{bench.table}-{name}") for name in ("queue", "dead")]
    for variable, value in {
        "OFFLOAD_CONSUMER": "ReleaseNotes",
        "OFFLOAD_QUEUE_URL": queues[0],
        "OFFLOAD_DEAD_LETTER_QUEUE_URL": queues[1],
        "OFFLOAD_MARKS_TABLE": new_table(bench.dynamodb, f"{bench.table}-marks"),
        "OFFLOAD_CLAIMS_BUCKET": bench.bucket,
        "OFFLOAD_ATTEMPTS": "3",
        "CHANGE_LOG_TABLE": bench.table,
        "CHANGE_LOG_BUCKET": bench.bucket,
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.delitem(sys.modules, "lambdas.release_notes.handler", raising=False)
    handler = importlib.import_module("lambdas.release_notes.handler").handler
    broken = received({"action": "published", "release": {"id": "one"}})
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
            "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1291191960000"},
        }
        for number, event in enumerate([*EVENTS[:4], broken])
    ]
    context = SimpleNamespace(aws_request_id="request-1")
    assert handler({"Records": records}, context) == {"batchItemFailures": []}
    assert handler({"Records": records[:4]}, context) == {"batchItemFailures": []}
    assert "Mended." in bench.pages()["2026-10"]
    (letter,) = sqs.receive_message(QueueUrl=queues[1], MessageAttributeNames=["All"], WaitTimeSeconds=1)["Messages"]
    assert letter["MessageAttributes"]["reason"]["StringValue"] == "broken-contract"
    assert aws.s3().head_object(Bucket=bench.bucket, Key=page_key("2026-10"))["ContentType"].startswith("text/markdown")


# -- the command


def test_a_month_without_a_page_is_told_with_those_that_have_one(bench: Bench) -> None:
    bench.take(*EVENTS)
    with pytest.raises(Failure, match="no page of 2026-09; months that have one: 2026-10, 2026-11"):
        page_in(bench.bucket, "2026-09", bench.s3)
