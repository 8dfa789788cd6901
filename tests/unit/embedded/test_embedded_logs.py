"""Log lines as people read them: tracebacks put together, JSON made short, the platform's lines left out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.logs import Entry, Line, duration, entries, rendered

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
# As the emulator wrote it on 2026-11-23: one event a line, its own frame first.
FAULT = [
    "Traceback (most recent call last):",
    '  File "/tmp/x/ministack-lambda-abc/_worker.py", line 128, in run',
    "    result = handler_fn(event, context)",
    "             ^^^^^^^^^^^^^^^^^^^^^^^^^^",
    '  File "/tmp/x/ministack-lambda-abc/code/lambdas/visit_ledger/handler.py", line 9, in handler',
    '    return {"a": 1}[x]',
    "           ~~~~~~~~^^^",
    "KeyError: 'b'",
]


def lines(*messages: str, stream: str = "s") -> list[Line]:
    return [Line(NOON, stream, message) for message in messages]


def test_a_traceback_of_many_events_is_one_entry_with_paths_of_the_project() -> None:
    before, fault, after = entries(lines("before", *FAULT, "after"))
    assert (before.text, after.text) == ("before", "after")
    assert fault.traceback
    assert fault.text.splitlines() == [
        "Traceback (most recent call last):",
        '  File "lambdas/visit_ledger/handler.py", line 9, in handler',
        '    return {"a": 1}[x]',
        "           ~~~~~~~~^^^",
        "KeyError: 'b'",
    ]


def test_two_functions_that_fail_at_once_keep_their_own_tracebacks() -> None:
    mixed = [line for pair in zip(lines(*FAULT, stream="a"), lines(*FAULT, stream="b"), strict=True) for line in pair]
    assert [(entry.stream, entry.text.splitlines()[-1]) for entry in entries(mixed)] == [
        ("a", "KeyError: 'b'"),
        ("b", "KeyError: 'b'"),
    ]


def test_a_traceback_that_is_cut_off_is_shown_as_far_as_it_goes() -> None:
    (entry,) = entries(lines(*FAULT[:6]))
    assert entry.text.endswith('return {"a": 1}[x]')


def test_a_traceback_in_one_event_as_aws_writes_it_reads_the_same() -> None:
    written = (
        "[ERROR] KeyError: 'b'\rTraceback (most recent call last):\r"
        '\xa0 File "/var/task/lambdas/a/handler.py", line 4'
    )
    (entry,) = entries(lines(written))
    assert entry.traceback
    assert entry.text.splitlines()[-1] == '  File "lambdas/a/handler.py", line 4'


def test_a_json_line_shows_message_and_fields_and_nothing_twice() -> None:
    content = {"level": "INFO", "message": "record", "event_id": "visit.ended:1", "outcome": "done", "timestamp": "x",
               "service": "VisitLedger", "trace_id": "", "detail": "two words"}  # fmt: skip
    text = rendered(Entry(NOON, "s", json.dumps(content)))
    assert text is not None
    assert text.partition("  ")[2] == 'INFO   record  event_id=visit.ended:1 outcome=done detail="two words"'


def test_an_exception_in_a_json_line_is_shown_with_its_lines() -> None:
    content = {"level": "ERROR", "message": "record", "exception": "\n".join(FAULT)}
    text = rendered(Entry(NOON, "s", json.dumps(content)))
    assert text is not None
    assert text.splitlines()[1:3] == [
        "    Traceback (most recent call last):",
        '      File "lambdas/visit_ledger/handler.py", line 9, in handler',
    ]


@pytest.mark.parametrize("message", ["START RequestId: 1", "END RequestId: 1", "REPORT RequestId: 1\tDuration: 2 ms"])
def test_what_the_platform_says_around_an_invocation_is_left_out(message: str) -> None:
    assert rendered(Entry(NOON, "s", message)) is None


def test_durations_are_read_with_their_unit_and_anything_else_is_refused() -> None:
    assert duration("90s") == timedelta(seconds=90)
    assert duration("2h") == timedelta(hours=2)
    with pytest.raises(Failure, match="'10' is no duration"):
        duration("10")
