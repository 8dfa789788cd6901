"""A durable function in the usual style, for comparison with `order_import`: AWS's SDK, Logger, pydantic, boto3.

The handler and its step are as the SDK's README has them (aws/aws-durable-execution-sdk-python), its input goes through
Powertools' parser, and clients are made beside it. No goal hangs on it: it says what the SDK costs.
"""

from __future__ import annotations

import os
from typing import Any

import boto3
from aws_durable_execution_sdk_python import DurableContext, durable_execution
from aws_lambda_powertools import Logger
from aws_lambda_powertools.utilities.parser import BaseModel, parse


class OrdersFile(BaseModel):
    """The file to import."""

    file: str
    chunk: int = 1000


logger = Logger(service="usual-durable")
s3 = boto3.client("s3")
events = boto3.client("events")
table = boto3.resource("dynamodb").Table(os.environ["RECORDS_TABLE"])


@durable_execution
def handler(event: dict[str, Any], context: DurableContext) -> dict[str, Any]:
    """The Lambda handler."""
    orders = parse(event=event, model=OrdersFile)

    def publish(_: object) -> int:
        content = s3.get_object(Bucket=os.environ["BUCKET"], Key=orders.file)["Body"].read()
        entry: Any = {"Source": "usual", "DetailType": "file", "Detail": content.decode()}
        return int(events.put_events(Entries=[entry])["FailedEntryCount"])

    failed = context.step(publish, name="publish")
    table.put_item(Item={"id": orders.file, "failed": failed})
    logger.info("imported", file=orders.file)
    return {"failed": failed}
