"""Minutes in which a scheduled function finds nothing to do: what each call does, beside what the bill counts."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import boto3

from offload.contracts.functions import handler_of
from offload.contracts.idle import COMMON_FIELDS, IdleCall
from offload.runtime import aws
from tests.meter import Meter

MINUTES: Final = 10
"""As many as it takes until everything that is looked at now and then has been looked at as often as it is."""


def imported(source: str) -> Any:
    """A function's module, made again as at a cold start."""
    module = handler_of(source).rpartition(".")[0]
    sys.modules.pop(module, None)
    return importlib.import_module(module)


def metered() -> Meter:
    """Counts what the functions' client for DynamoDB does from now on."""
    looking, meter = boto3.client("dynamodb"), Meter()

    def look(table: str, keys: Sequence[Any]) -> list[Any]:
        return [looking.get_item(TableName=table, Key=key)["Item"] for key in keys]

    meter.attach(aws.dynamodb(), look)
    return meter


def assert_line(lines: str, sweep: IdleCall) -> None:
    """Each minute one line, no longer than is counted, with no field that is not known to be there."""
    found = lines.splitlines()
    assert len(found) == MINUTES
    assert max(len(line.encode()) for line in found) <= sweep.log_bytes
    assert {field for line in found for field in json.loads(line)} - COMMON_FIELDS == sweep.fields
