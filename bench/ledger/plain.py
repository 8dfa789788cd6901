"""The plain design, as Powertools' documentation writes it: one idempotency record and one transaction an event.

BatchProcessor with `process_partial_response`, `idempotent_function` over a DynamoDBPersistenceLayer keyed by the
event's source and id (docs.powertools.aws.dev/lambda/python: "Batch processing", "Idempotency", integrating the two),
and for the effect one TransactWriteItems of ADDs: the total, each day, each country, each product of the invoice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import (
    DynamoDBPersistenceLayer,
    IdempotencyConfig,
    idempotent_function,
)

# DynamoDB: 100 actions a transaction (Constraints.html, read 2026-11-23).
_ACTIONS: Final = 100


def plain_handler(client: Any, records_table: str, counters_table: str) -> Callable[[dict[str, Any], Any], Any]:
    """The Lambda handler over a DynamoDB client and the tables of its idempotency records and its counters."""
    store = DynamoDBPersistenceLayer(table_name=records_table, boto3_client=client)
    config = IdempotencyConfig(event_key_jmespath="[source, id]")
    processor = BatchProcessor(event_type=EventType.SQS)

    @idempotent_function(data_keyword_argument="event", config=config, persistence_store=store)  # type: ignore[untyped-decorator]
    def add(*, event: dict[str, Any]) -> None:
        actions = [_add(counters_table, key, amounts) for key, amounts in counters_of(event).items()]
        for number, start in enumerate(range(0, len(actions), _ACTIONS)):
            client.transact_write_items(
                TransactItems=actions[start : start + _ACTIONS],
                ClientRequestToken=hashlib.md5(
                    f"{counters_table}#{event['id']}#{number}".encode(), usedforsecurity=False
                ).hexdigest(),
            )

    def record_handler(record: SQSRecord) -> None:
        add(event=json.loads(record.body)["detail"])

    def handler(event: dict[str, Any], context: Any) -> Any:
        config.register_lambda_context(context)
        return process_partial_response(
            event=event, record_handler=record_handler, processor=processor, context=context
        )

    return handler


def counters_of(event: dict[str, Any]) -> dict[str, list[Decimal]]:
    """What one event adds, by counter: revenue, units, orders, cancellations."""
    data = event["data"]
    counts = [Decimal(0), Decimal(1)] if event["type"] == "order.cancelled" else [Decimal(1), Decimal(0)]
    counters: dict[str, list[Decimal]] = {}
    counted: set[str] = set()
    for line in data["lines"]:
        amounts = [Decimal(line["unit_price"]) * line["quantity"], Decimal(line["quantity"])]
        keys = (
            "total",
            f"day#{line.get('invoiced_at', data['invoiced_at'])[:10]}",
            f"country#{line.get('country', data['country'])}",
            f"product#{line['product']}",
        )
        for key in keys:
            # The invoice counts once for the whole, its first line's day and country, and each of its products.
            first = line is data["lines"][0] if not key.startswith("product#") else key not in counted
            counted.add(key)
            more = [*amounts, *(counts if first else (Decimal(0), Decimal(0)))]
            before = counters.get(key, [Decimal(0)] * 4)
            counters[key] = [a + b for a, b in zip(before, more, strict=True)]
    return counters


def _add(table: str, key: str, amounts: list[Decimal]) -> dict[str, Any]:
    names = ("revenue", "units", "orders", "cancellations")
    return {
        "Update": {
            "TableName": table,
            "Key": {"pk": {"S": key}},
            "UpdateExpression": "ADD " + ", ".join(f"{name} :{name}" for name in names),
            "ExpressionAttributeValues": {
                f":{name}": {"N": f"{amount:f}"} for name, amount in zip(names, amounts, strict=True)
            },
        }
    }
