"""The functions' log: lines that `offload logs` and CloudWatch Logs Insights read."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest

from offload.runtime.log import Logger

log = Logger("shop")


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The one line that was written."""
    (text,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_line_has_level_place_message_time_and_service_before_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    log.info("sold", product="85123A", units=3)
    said = line(capsys)
    assert list(said) == ["level", "location", "message", "timestamp", "service", "product", "units"]
    assert (said["level"], said["message"], said["service"]) == ("INFO", "sold", "shop")
    assert said["location"].startswith("test_a_line_has_level_place_message_time_and_service_before_its_fields:")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\+0000", said["timestamp"])


def test_levels_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    log.warning("slow")
    assert line(capsys)["level"] == "WARNING"
    log.error("broken")
    assert line(capsys)["level"] == "ERROR"


def test_an_exception_comes_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        _ = 13 // 0
    except ZeroDivisionError as error:
        caught = error
        log.exception("failed", job="j")
    first = line(capsys)
    log.error("failed", exc_info=caught)
    second = line(capsys)
    for said in (first, second):
        assert said["exception_name"] == "ZeroDivisionError"
        assert said["exception"].startswith("Traceback (most recent call last):\n")
        assert said["exception"].endswith("ZeroDivisionError: integer division or modulo by zero\n")


def test_x_rays_trace_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")
    log.info("sold")
    assert line(capsys)["xray_trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"


class Colour(StrEnum):
    """A value that is no plain JSON."""

    RED = "red"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Colour.RED, "red"),
        (datetime(2026, 11, 27, tzinfo=UTC), "2026-11-27T00:00:00Z"),
        (ValueError("odd"), "odd"),
        ({"a": [1, None]}, {"a": [1, None]}),
        ("two\nlines", "two\nlines"),
    ],
)
def test_any_value_can_be_told(value: object, shown: object, capsys: pytest.CaptureFixture[str]) -> None:
    log.info("told", value=value)
    assert line(capsys)["value"] == shown


def test_what_is_no_json_is_told_as_text_and_the_line_is_never_lost(capsys: pytest.CaptureFixture[str]) -> None:
    endless: list[Any] = []
    endless.append(endless)
    log.error("told", half="half \ud800 of a pair", endless=endless, job="j")
    said = line(capsys)
    assert (said["level"], said["message"], said["job"]) == ("ERROR", "told", "j")
    assert (said["half"], said["endless"]) == (r"'half \ud800 of a pair'", "[[...]]")
