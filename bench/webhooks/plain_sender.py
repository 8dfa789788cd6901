"""The plain design, as a team would first write it: one delivery a message and an invocation, one after another.

It signs as ours does (HMAC of Standard Webhooks), keeps a connection open, and writes down what became of the delivery.
It has no leases, no rate, no order and no breaker, and leaves retries to its queue.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

_connections: dict[str, http.client.HTTPConnection] = {}


def plan(events: list[dict[str, Any]], subscriptions: list[dict[str, str]], sqs: Any, queue: str) -> None:
    """A message for each event and subscription, ten a call."""
    messages = [
        {"subscription": each["id"], "url": each["url"], "secret": each["secret"], "event": event}
        for event in events
        for each in subscriptions
    ]
    for start in range(0, len(messages), 10):
        entries = [
            {"Id": str(index), "MessageBody": json.dumps(message)}
            for index, message in enumerate(messages[start : start + 10])
        ]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)


def send(record: dict[str, Any], table: str, dynamodb: Any) -> int:
    """One invocation: posts, and writes down the status; raises for what its queue should bring again."""
    message = json.loads(record["body"])
    body = json.dumps(message["event"]).encode()
    name = f"{message['subscription']}:{message['event']['id']}"
    seconds = str(int(time.time()))
    content = f"{name}.{seconds}.".encode() + body
    key = base64.b64decode(message["secret"].removeprefix("whsec_"))
    signature = base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()
    url = urlsplit(message["url"])
    connection = _connections.setdefault(url.netloc, http.client.HTTPConnection(url.netloc, timeout=15))
    try:
        connection.request(
            "POST",
            url.path,
            body,
            {
                "content-type": "application/json",
                "webhook-id": name,
                "webhook-timestamp": seconds,
                "webhook-signature": f"v1,{signature}",
            },
        )
        answer = connection.getresponse()
        answer.read()
    except OSError:
        # Half an exchange is on it: the next delivery opens another.
        connection.close()
        raise
    dynamodb.put_item(
        TableName=table,
        Item={"pk": {"S": name}, "sk": {"S": "delivery"}, "status": {"N": str(answer.status)}, "at": {"N": seconds}},
    )
    if not 200 <= answer.status < 300:
        raise RuntimeError(f"{url.netloc} answered {answer.status}")
    return answer.status
