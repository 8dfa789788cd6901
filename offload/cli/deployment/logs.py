"""A function's log lines, as people read them."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from offload.cli import terminal
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment

POLL_EVERY = 1.0
"""Seconds between two looks for new lines."""
LATE_BY = timedelta(seconds=10)
"""How much later than its time stamp a line may appear."""

_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = ("During handling of the above exception", "The above exception was the direct cause")
_PLATFORM = re.compile(r"^(START|END|REPORT|INIT_START|EXTENSION|XRAY) ")
# Where code lies: on AWS, and in a worker of the embedded AWS.
_CODE = re.compile(r'File "(?:/var/task/|[^"]*/code/)')
_WORKER_FRAME = re.compile(r'^  File "[^"]*/_worker\.py", line \d+')
_DURATION = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
# What is the same on every line of a function, or shown apart.
_NOT_SHOWN = frozenset(
    {
        "timestamp", "level", "message", "location", "service", "exception", "exception_name", "stack_trace",
        "function_name", "function_arn", "function_memory_size", "function_request_id", "cold_start", "sampling_rate",
        "xray_trace_id", "requestId", "request_id", "message_id", "consumer",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One event of a log group."""

    moment: datetime
    stream: str
    message: str


@dataclass(frozen=True)
class Entry:
    """What belongs together: a line, or all the lines of one traceback."""

    moment: datetime
    stream: str
    text: str
    traceback: bool = False


def duration(text: str) -> timedelta:
    """Reads `90s`, `10m`, `2h`, `1d`; raises Failure."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise Failure(f"'{text}' is no duration: a number and s, m, h or d, such as 10m")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def read(deployment: Deployment, log_group: str, since: datetime, *, follow: bool) -> Iterator[list[Line]]:
    """The lines of a log group from `since` on, a list a look; without `follow` exactly one list."""
    logs = deployment.aws.logs
    seen: Counter[tuple[int, str, str]] = Counter()
    start = since
    while True:
        found: Counter[tuple[int, str, str]] = Counter()
        fresh: list[Line] = []
        try:
            pages = logs.get_paginator("filter_log_events").paginate(
                logGroupName=log_group, startTime=int(start.timestamp() * 1000)
            )
            for page in pages:
                for event in page["events"]:
                    line = (event["timestamp"], event["logStreamName"], event["message"].rstrip("\n"))
                    found[line] += 1
                    if found[line] > seen[line]:
                        fresh.append(Line(datetime.fromtimestamp(line[0] / 1000, UTC), line[1], line[2]))
        except logs.exceptions.ResourceNotFoundException:
            pass  # a function that never ran may have no log group yet
        seen = found
        yield fresh
        if not follow:
            return
        start = max(start, datetime.now(UTC) - LATE_BY - timedelta(seconds=POLL_EVERY))
        time.sleep(POLL_EVERY)


def entries(lines: Iterable[Line]) -> Iterator[Entry]:
    """Puts together the lines of a traceback, which the embedded AWS writes as one event each.

    AWS writes one event with carriage returns and no-break spaces in it; both come out the same.
    """
    collected: dict[str, list[Line]] = {}
    for line in lines:
        text = line.message.replace("\r", "\n").replace("\xa0", " ")
        if line.stream in collected:
            collected[line.stream].append(line)
            if text and not text.startswith((" ", *_CHAINED, _TRACEBACK)):
                yield _traceback(collected.pop(line.stream))
        elif text.startswith(_TRACEBACK) and "\n" not in text:
            collected[line.stream] = [line]
        else:
            yield Entry(line.moment, line.stream, _readable(text), traceback=_TRACEBACK in text)
    for rest in collected.values():
        yield _traceback(rest)


def rendered(entry: Entry) -> str | None:
    """One entry as text; None for what the platform says around an invocation."""
    clock = f"{entry.moment.astimezone():%H:%M:%S}.{entry.moment.microsecond // 1000:03d}"
    if _PLATFORM.match(entry.text):
        return None
    try:
        content = json.loads(entry.text)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        if entry.traceback:
            return f"{clock}  ERROR\n{_indented(entry.text)}"
        # Later lines stand below the clock: none can pass for an entry of its own.
        first, *later = entry.text.split("\n")
        return "\n".join([f"{clock}  {first}", *(f"    {line}" for line in later)])
    return _structured(clock, content)


def show(deployment: Deployment, name: str, since: timedelta, *, follow: bool, as_json: bool) -> None:
    """Prints the log of the function with this construct name or folder; with `follow` until interrupted."""
    function = deployment.function(name)
    begin = datetime.now(UTC) - since
    shown = 0
    for lines in read(deployment, function.log_group, begin, follow=follow):
        if as_json:
            for line in lines:
                moment = line.moment.isoformat()
                terminal.print_json_line({"time": moment, "stream": line.stream, "message": line.message})
                shown += 1
        else:
            for text in _as_text(lines):
                terminal.block(text)
                shown += 1
    if not shown and not as_json:
        terminal.line(
            f"{function.name} has logged nothing since {begin.astimezone():%H:%M:%S} (--since 1d)", stderr=True
        )


def _as_text(lines: Iterable[Line]) -> Iterator[str]:
    return (text for entry in entries(lines) if (text := rendered(entry)) is not None)


def _traceback(lines: list[Line]) -> Entry:
    text = "\n".join(line.message for line in lines)
    return Entry(lines[0].moment, lines[0].stream, _readable(text), traceback=True)


def _readable(text: str) -> str:
    """A text without the emulator's own frame in its tracebacks, and with paths as they are in the project."""
    if 'File "' not in text:
        return text
    kept: list[str] = []
    skipping = False
    for line in text.split("\n"):
        if _WORKER_FRAME.match(line):
            skipping = True
        elif skipping and line.startswith("    "):
            continue
        else:
            skipping = False
            kept.append(_CODE.sub('File "', line))
    return "\n".join(kept)


def _structured(clock: str, content: dict[str, Any]) -> str:
    message = content.get("message", "")
    fields = " ".join(
        f"{key}={_value(value)}" for key, value in content.items() if key not in _NOT_SHOWN and value not in ("", None)
    )
    parts = [clock, f"{content.get('level', ''):<5}", message if isinstance(message, str) else _value(message), fields]
    # In one line, whatever a field has in it: a line break would make an entry that nobody logged.
    text = terminal.visible("  ".join(part for part in parts if part.strip()))
    exception = content.get("exception") or content.get("stack_trace")
    if isinstance(exception, list):
        exception = "\n".join(str(line) for line in exception)
    return f"{text}\n{_indented(_readable(exception))}" if isinstance(exception, str) else text


def _value(value: Any) -> str:
    if isinstance(value, str) and value and not re.search(r"[\s\"=]", value):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().split("\n"))
