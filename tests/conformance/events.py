"""EventBridge."""

from __future__ import annotations

import json
from typing import Any

from offload.contracts.webhooks_out import filters
from tests.conformance.behaviour import Differs, Where, behaviour
from tests.conformance.oracle import ABSENT, WITHIN, Oracle, refusal, until

GUIDE = "eventbridge/latest/userguide"
API = "eventbridge/latest/APIReference"
READ = "2026-11-29"
EVERYWHERE: tuple[Where, ...] = ("embedded", "moto", "account")
PUBLISHERS = ("offload/client/publisher.py", "offload/runtime/bus.py", "offload/runtime/webhooks_in/bus.py")


def a_bus(aws: Oracle) -> str:
    """The bus that all of them share."""

    def make() -> str:
        name = aws.name()
        aws.client("events").create_event_bus(Name=name)
        aws.later(aws.client("events").delete_event_bus, Name=name)
        return name

    return aws.shared("bus", make)


def an_entry(aws: Oracle, kind: str = "a", detail: str = "{}") -> dict[str, Any]:
    return {"EventBusName": a_bus(aws), "Source": "offload.conformance", "DetailType": kind, "Detail": detail}


def a_rule(aws: Oracle, pattern: dict[str, Any], target: str, **more: Any) -> None:
    """A rule of the bus that sends what matches to a queue."""
    events, bus, name = aws.client("events"), a_bus(aws), aws.name()
    events.put_rule(Name=name, EventBusName=bus, EventPattern=json.dumps(pattern))
    aws.later(events.delete_rule, Name=name, EventBusName=bus)
    target_of_it = {"Id": "queue", "Arn": aws.arn_of(target), **more}
    events.put_targets(Rule=name, EventBusName=bus, Targets=[target_of_it])
    aws.later(events.remove_targets, Rule=name, EventBusName=bus, Ids=["queue"])


def a_queue(aws: Oracle) -> str:
    """A queue that lets the rules of the bus in."""
    queue = aws.queue()
    let_in = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": aws.arn_of(queue),
        "Condition": {"ArnLike": {"aws:SourceArn": f"arn:*:events:*:*:rule/{a_bus(aws)}/*"}},
    }
    policy = json.dumps({"Version": "2012-10-17", "Statement": [let_in]})
    aws.client("sqs").set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
    return queue


@behaviour(
    "PutEvents takes at most 10 entries",
    document=f"{API}/API_PutEvents.html",
    read="2026-11-23",
    relied=(*PUBLISHERS, "offload/contracts/events/entry.py"),
    expected="ValidationException",
    on=EVERYWHERE,
)
def ten_entries(aws: Oracle) -> Any:
    return refusal(aws.client("events").put_events, Entries=[an_entry(aws)] * 11)


@behaviour(
    "Of entries with one whose detail is not JSON, the others are taken, with status 200: the answer has an entry for"
    " each in their order, with an error code where it failed",
    document=f"{API}/API_PutEventsResultEntry.html",
    read=READ,
    relied=(*PUBLISHERS, "offload/contracts/events/entry.py"),
    expected=[1, None, "MalformedDetail", None],
    on=EVERYWHERE,
    differs={
        "embedded": Differs([0, None, None, None], "it takes any detail; publishers encode details themselves"),
    },
)
def entries_fail_in_part(aws: Oracle) -> Any:
    entries = [an_entry(aws), an_entry(aws, detail="{not JSON"), an_entry(aws)]
    answer = aws.client("events").put_events(Entries=entries)
    return [answer["FailedEntryCount"], *(each.get("ErrorCode") for each in answer["Entries"])]


@behaviour(
    "An entry of more than 1 MB is refused",
    document=f"{API}/API_PutEvents.html",
    read=READ,
    relied=("offload/contracts/events/entry.py",),
    expected="refused",
    differs={"embedded": Differs("taken", "it takes an entry of any size; what is larger travels as a claim check")},
)
def entry_of_one_megabyte(aws: Oracle) -> Any:
    entry = an_entry(aws, detail=json.dumps({"data": "a" * 1_050_000}))
    events = aws.client("events")
    try:
        answer = events.put_events(Entries=[entry])
    except events.exceptions.ClientError:
        return "refused"
    return "refused" if answer["FailedEntryCount"] else "taken"


ENVELOPE = ["detail", "detail-type", "id", "region", "resources", "source", "time", "version"]
PATTERNS: dict[str, tuple[Any, Any, bool]] = {
    "exact, one of": (["a", "b"], "b", True),
    "exact, none of": (["a"], "A", False),
    "prefix": ([{"prefix": "ab"}], "abc", True),
    "prefix of nothing": ([{"prefix": "bc"}], "abc", False),
    "suffix": ([{"suffix": "bc"}], "abc", True),
    "numeric range": ([{"numeric": [">", 1, "<=", 5]}], 5, True),
    "numeric, outside": ([{"numeric": [">", 1, "<=", 5]}], 1, False),
    "numeric of text": ([{"numeric": [">", 1]}], "5", False),
    "anything but": ([{"anything-but": ["a"]}], "b", True),
    "anything but this": ([{"anything-but": ["a"]}], "a", False),
    "exists": ([{"exists": True}], "a", True),
    "does not exist": ([{"exists": False}], "a", False),
    "any of a list": (["b"], ["a", "b"], True),
    "null": ([None], None, True),
    "true is not text": ([True], "true", False),
}

OURS_TAKES = {"numeric of text"}
"""Amounts of money are written as text in our events, so a filter of a subscription compares them as numbers."""


@behaviour(
    "Event patterns: exact values, prefix, suffix, numeric, anything-but, exists, one element of a list; filters of"
    " subscriptions decide the same, but that they take a number in a text for one",
    document=f"{GUIDE}/eb-create-pattern-operators.html",
    read="2026-11-27",
    relied=("offload/contracts/webhooks_out/filters.py", "offload/cdk/patterns/event_consumer.py"),
    expected={name: matches for name, (_, _, matches) in PATTERNS.items()},
)
def patterns(aws: Oracle) -> Any:
    events = aws.client("events")
    found = {}
    for name, (pattern, value, matches) in PATTERNS.items():
        event = {
            "id": "1",
            "source": "s",
            "detail-type": "t",
            "account": "123456789012",
            "time": "2026-11-29T00:00:00Z",
            "region": aws.region,
            "resources": [],
            "detail": {"field": value},
        }
        answer = events.test_event_pattern(
            EventPattern=json.dumps({"detail": {"field": pattern}}), Event=json.dumps(event)
        )
        found[name] = answer["Result"]
        # What decides for subscriptions is code of ours, which says that it does the same.
        ours = filters.matches({"field": pattern}, {"field": value})
        assert ours == (matches or name in OURS_TAKES), f"{name}: our filter says {ours}"
    return found


@behaviour(
    "Rules hand over what matches these patterns, and nothing else",
    document=f"{GUIDE}/eb-create-pattern-operators.html",
    read="2026-11-27",
    relied=("offload/cdk/patterns/event_consumer.py",),
    expected=sorted(name for name, (_, _, matches) in PATTERNS.items() if matches),
    on=EVERYWHERE,
)
def patterns_of_rules(aws: Oracle) -> Any:
    queue, seen = a_queue(aws), set[str]()
    for name, (pattern, _, _) in PATTERNS.items():
        a_rule(aws, {"detail-type": [name], "detail": {"field": pattern}}, queue)
    entries = [an_entry(aws, name, json.dumps({"field": value})) for name, (_, value, _) in PATTERNS.items()]
    wanted = {name for name, (_, _, matches) in PATTERNS.items() if matches}

    def arrived() -> bool:
        # A new rule takes a while to take effect (eb-create-rule.html): what was put before is not handed over.
        for start in (0, 10):
            aws.client("events").put_events(Entries=entries[start : start + 10])
        while messages := aws.receive(queue):
            seen.update(json.loads(each["Body"])["detail-type"] for each in messages)
        return seen >= wanted

    until(arrived, within=WITHIN if aws.where == "account" else ABSENT)
    return sorted(seen)


@behaviour(
    "A rule hands the event over in an envelope with its source, detail-type and detail, to the targets that match",
    document=f"{GUIDE}/eb-events-structure.html",
    read=READ,
    relied=("offload/contracts/events/entry.py", "offload/runtime/events/consumer.py"),
    expected=[["wanted"], ["account", *ENVELOPE]],
    on=EVERYWHERE,
    differs={"moto": Differs([["wanted"], ENVELOPE], "it leaves the account out, which nothing reads")},
)
def envelope(aws: Oracle) -> Any:
    queue = a_queue(aws)
    a_rule(aws, {"detail-type": [{"prefix": "want"}], "source": ["offload.conformance"]}, queue)
    messages: list[Any] = []

    def arrived() -> bool:
        # A new rule takes a while to take effect (eb-create-rule.html): what was put before is not handed over.
        aws.client("events").put_events(Entries=[an_entry(aws, "other"), an_entry(aws, "wanted", '{"n": 1}')])
        messages.extend(aws.receive(queue))
        return bool(messages)

    until(arrived)
    envelopes = [json.loads(each["Body"]) for each in messages]
    return [sorted({each["detail-type"] for each in envelopes}), sorted(envelopes[0])]


@behaviour(
    "What a rule cannot hand over goes to the target's dead-letter queue, with the error's code and the rule as"
    " attributes",
    document=f"{GUIDE}/eb-rule-dlq.html",
    read="2026-11-23",
    relied=("offload/cli/events/dead_letters.py", "offload/cdk/patterns/event_consumer.py"),
    expected=["ERROR_CODE", "RULE_ARN"],
    differs={"embedded": Differs([], "the event is lost: published and done differ in the reconciliation")},
)
def dead_letter_of_a_rule(aws: Oracle) -> Any:
    sqs, target, dead = aws.client("sqs"), a_queue(aws), a_queue(aws)
    a_rule(
        aws,
        {"detail-type": ["lost"]},
        target,
        DeadLetterConfig={"Arn": aws.arn_of(dead)},
        RetryPolicy={"MaximumRetryAttempts": 0, "MaximumEventAgeInSeconds": 60},
    )
    sqs.delete_queue(QueueUrl=target)

    def arrived() -> list[dict[str, Any]]:
        aws.client("events").put_events(Entries=[an_entry(aws, "lost")])
        return aws.receive(dead)

    found = until(arrived, within=180 if aws.where == "account" else ABSENT) or []
    return sorted({name for each in found for name in each.get("MessageAttributes", {})} & {"ERROR_CODE", "RULE_ARN"})
