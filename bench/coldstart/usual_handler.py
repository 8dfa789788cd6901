"""A sales ledger as most examples write it, for comparison: Powertools for everything, pydantic, a boto3 resource.

Logger, BatchProcessor, Idempotency and the parser's EventBridge envelope model as their documentation shows them
(docs.powertools.aws.dev/lambda/python); counters by UpdateItem through a boto3 table.
"""

from __future__ import annotations

import json
import os
from decimal import Decimal
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.parser import BaseModel, parse
from aws_lambda_powertools.utilities.parser.models import EventBridgeModel


class Line(BaseModel):
    """One product of an invoice."""

    product: str
    quantity: int
    unit_price: Decimal


class Order(BaseModel):
    """An invoice."""

    invoice: str
    invoiced_at: str
    country: str
    lines: list[Line]


class Detail(BaseModel):
    """The CloudEvents envelope."""

    id: str
    source: str
    data: Order


class OrderMessage(EventBridgeModel):
    """What the bus puts into the queue."""

    detail: Detail


logger = Logger(service="usual")
table = boto3.resource("dynamodb").Table(os.environ["LEDGER_TABLE"])
store = DynamoDBPersistenceLayer(table_name=os.environ["RECORDS_TABLE"])
config = IdempotencyConfig(event_key_jmespath="[source, id]")
processor = BatchProcessor(event_type=EventType.SQS)


@idempotent_function(data_keyword_argument="detail", config=config, persistence_store=store)  # type: ignore[untyped-decorator]
def add(*, detail: dict[str, Any]) -> None:
    """Adds one order to its day."""
    order = Detail.model_validate(detail).data
    table.update_item(
        Key={"pk": f"day#{order.invoiced_at[:10]}", "sk": "total"},
        UpdateExpression="ADD revenue :revenue, orders :one",
        ExpressionAttributeValues={
            ":revenue": sum((line.unit_price * line.quantity for line in order.lines), Decimal(0)),
            ":one": 1,
        },
    )


def record_handler(record: SQSRecord) -> None:
    """One record."""
    message = parse(event=json.loads(record.body), model=OrderMessage)
    add(detail=message.detail.model_dump(mode="json"))
    logger.info("done", event_id=message.detail.id)


def handler(event: dict[str, Any], context: Any) -> Any:
    """The Lambda handler."""
    config.register_lambda_context(context)
    return process_partial_response(event=event, record_handler=record_handler, processor=processor, context=context)
