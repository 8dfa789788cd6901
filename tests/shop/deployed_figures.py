"""What a deployed app has done, read from its tables: what tests compare with plain addition."""

from __future__ import annotations

from offload.cli.deployment.resources import Deployment
from offload.runtime.events import sums


def done_by(deployment: Deployment, consumer: str, *, of: str = "") -> int:
    """How many events a consumer has done, each counted once; `of` is what their types begin with."""
    marks = str(deployment.consumer(consumer).marks_table)
    done = sums.read(deployment.aws.dynamodb, marks).get("done", {})
    return sum(int(amounts[0]) for event_type, amounts in done.items() if event_type.startswith(of))


def levels_of(deployment: Deployment) -> dict[str, int]:
    """Every product's level, in units."""
    pages = deployment.aws.dynamodb.get_paginator("scan").paginate(TableName=deployment.table("StockTable"))
    return {
        product: int(units["N"])
        for page in pages
        for item in page["Items"]
        for product, units in item["levels"]["M"].items()
    }
