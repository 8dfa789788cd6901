"""A receiver of GitHub's webhooks as most examples write it, for comparison: Powertools, pydantic, a boto3 client.

Each part is used as its page in Powertools' documentation says (docs.aws.amazon.com/powertools/python/latest):
core/event_handler/api_gateway ("API Gateway HTTP API", "Raising HTTP errors", "Fine grained responses"), core/logger
(`inject_lambda_context`), utilities/parameters ("Fetching secrets"), utilities/idempotency ("Idempotent_function
decorator", "Choosing a payload subset", "Adjusting expiration window", "Lambda timeouts"), utilities/parser (`parse`
with a model). The signature is checked as GitHub's page "Validating webhook deliveries" does in Python. One handler
that resolves, with models apart from it, is also how the AWS Lambda Handler Cookbook is laid out
(ran-isenberg/aws-lambda-handler-cookbook, service/handlers/handle_create_order.py). There is no Tracer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from http import HTTPStatus
from typing import Any

import boto3
from aws_lambda_powertools import Logger
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response, content_types
from aws_lambda_powertools.event_handler.exceptions import BadRequestError, UnauthorizedError
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.idempotency import DynamoDBPersistenceLayer, IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.parser import BaseModel, ValidationError, parse
from aws_lambda_powertools.utilities.typing import LambdaContext


class Repository(BaseModel):
    """Where it happened."""

    full_name: str


class Sender(BaseModel):
    """Who did it."""

    login: str


class Payload(BaseModel):
    """What all of GitHub's payloads of a repository have."""

    action: str | None = None
    repository: Repository
    sender: Sender


logger = Logger(service="usual-receiver")
app = APIGatewayHttpResolver()
events = boto3.client("events")
store = DynamoDBPersistenceLayer(table_name=os.environ["RECORDS_TABLE"])
config = IdempotencyConfig(event_key_jmespath="id", expires_after_seconds=7 * 24 * 3600)


def verify_signature(body: bytes, signature: str | None) -> None:
    """Raises UnauthorizedError unless the body was signed with the secret."""
    if not signature:
        raise UnauthorizedError("x-hub-signature-256 is missing")
    secret = parameters.get_secret(os.environ["WEBHOOK_SECRET_NAME"])
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, signature):
        raise UnauthorizedError("the signatures do not match")


@idempotent_function(data_keyword_argument="delivery", config=config, persistence_store=store)  # type: ignore[untyped-decorator]
def publish(*, delivery: dict[str, Any]) -> None:
    """Puts one delivery on the bus."""
    entry: Any = {
        "EventBusName": os.environ["BUS_NAME"],
        "Source": "webhooks.github",
        "DetailType": delivery["type"],
        "Detail": delivery["body"],
    }
    answer = events.put_events(Entries=[entry])
    if answer["FailedEntryCount"]:
        raise RuntimeError(f"the bus refused it: {answer['Entries']}")


@app.post("/webhooks/github")
def receive() -> Response[str]:
    """One delivery."""
    request = app.current_event
    body = request.decoded_body or ""
    verify_signature(body.encode(), request.headers.get("x-hub-signature-256"))
    try:
        payload = parse(event=json.loads(body), model=Payload)
    except (ValidationError, ValueError) as error:
        raise BadRequestError("the payload is not one of GitHub's") from error
    delivery_id = request.headers["x-github-delivery"]
    publish(delivery={"id": delivery_id, "type": request.headers["x-github-event"], "body": body})
    logger.info("delivered", delivery_id=delivery_id, repository=payload.repository.full_name)
    return Response(status_code=HTTPStatus.OK, content_type=content_types.APPLICATION_JSON, body='{"accepted":true}')


@logger.inject_lambda_context
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """The Lambda handler."""
    config.register_lambda_context(context)
    return app.resolve(event, context)
