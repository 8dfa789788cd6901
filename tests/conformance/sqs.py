"""SQS."""

from __future__ import annotations

import json
from typing import Any

from tests.conformance.behaviour import Differs, Where, behaviour
from tests.conformance.oracle import Oracle, refusal, until

GUIDE = "AWSSimpleQueueService/latest/SQSDeveloperGuide"
API = "AWSSimpleQueueService/latest/APIReference"
READ = "2026-11-29"
EVERYWHERE: tuple[Where, ...] = ("embedded", "moto", "account")
MESSAGE_LIMIT = 1_048_576  # bytes


@behaviour(
    "A message that is received and not deleted is hidden for its visibility timeout, then it comes back, counted",
    document=f"{GUIDE}/sqs-visibility-timeout.html",
    read=READ,
    relied=("offload/runtime/events/consumer.py", "offload/functions/delivery_sender/handler.py"),
    expected=["1", "hidden", "2"],
    on=EVERYWHERE,
)
def comes_back(aws: Oracle) -> Any:
    url = aws.queue()
    aws.client("sqs").send_message(QueueUrl=url, MessageBody="a")
    first = until(lambda: aws.receive(url, visibility=2))
    hidden = aws.receive(url, wait=0)
    again = until(lambda: aws.receive(url))
    assert first
    assert again
    count = "ApproximateReceiveCount"
    return [first[0]["Attributes"][count], "hidden" if not hidden else "seen", again[0]["Attributes"][count]]


@behaviour(
    "ChangeMessageVisibility to 0 makes a received message visible at once",
    document=f"{API}/API_ChangeMessageVisibility.html",
    read=READ,
    relied=("offload/cli/events/dead_letters.py", "offload/runtime/events/consumer.py"),
    expected="seen again",
    on=EVERYWHERE,
)
def visible_at_once(aws: Oracle) -> Any:
    sqs, url = aws.client("sqs"), aws.queue()
    sqs.send_message(QueueUrl=url, MessageBody="a")
    (message,) = until(lambda: aws.receive(url, visibility=600)) or [{}]
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    return "seen again" if until(lambda: aws.receive(url), within=20) else "hidden"


@behaviour(
    "After maxReceiveCount receives a message moves to the dead-letter queue with its id, body and attributes,"
    " and names the queue that it came from",
    document=f"{GUIDE}/sqs-dead-letter-queues.html",
    read=READ,
    relied=("offload/cli/events/dead_letters.py", "offload/cdk/constructs/work_queue.py"),
    expected={"source": True, "same id": True, "body": "a", "attribute": "b", "receives": 2},
    on=EVERYWHERE,
    differs={
        "moto": Differs(
            {"source": False, "same id": True, "body": "a", "attribute": "b", "receives": 2},
            "it does not name the source; the embedded AWS does",
        )
    },
)
def moves_to_dead_letters(aws: Oracle) -> Any:
    sqs = aws.client("sqs")
    dead = aws.queue()
    policy = {"deadLetterTargetArn": aws.arn_of(dead), "maxReceiveCount": 2}
    url = aws.queue(RedrivePolicy=json.dumps(policy))
    attribute = {"kind": {"DataType": "String", "StringValue": "b"}}
    sent = sqs.send_message(QueueUrl=url, MessageBody="a", MessageAttributes=attribute)
    receives = 0

    def moved() -> list[dict[str, Any]]:
        nonlocal receives
        receives += len(aws.receive(url, visibility=0, wait=0))
        return aws.receive(dead, wait=0)

    (message,) = until(moved) or [{}]
    source = message["Attributes"].get("DeadLetterQueueSourceArn")
    return {
        "source": source == aws.arn_of(url),
        "same id": message["MessageId"] == sent["MessageId"],
        "body": message["Body"],
        "attribute": message["MessageAttributes"]["kind"]["StringValue"],
        "receives": receives,
    }


@behaviour(
    "A message holds 1,048,576 bytes; one more is refused",
    document=f"{GUIDE}/quotas-messages.html",
    read="2026-11-23",
    relied=("offload/contracts/events/entry.py",),
    expected=[None, "refused"],
    on=EVERYWHERE,
)
def message_of_one_mebibyte(aws: Oracle) -> Any:
    sqs, url = aws.client("sqs"), aws.queue(MaximumMessageSize=str(MESSAGE_LIMIT))
    fits = refusal(sqs.send_message, QueueUrl=url, MessageBody="a" * MESSAGE_LIMIT)
    return [fits, "refused" if refusal(sqs.send_message, QueueUrl=url, MessageBody="a" * (MESSAGE_LIMIT + 1)) else None]


@behaviour(
    "The messages of a batch may have 1,048,576 bytes together",
    document=f"{API}/API_SendMessageBatch.html",
    read=READ,
    relied=("offload/cli/events/dead_letters.py",),
    expected="AWS.SimpleQueueService.BatchRequestTooLong",
    on=EVERYWHERE,
)
def batch_of_one_mebibyte(aws: Oracle) -> Any:
    half = "a" * (MESSAGE_LIMIT // 2 + 1)
    url = aws.queue(MaximumMessageSize=str(MESSAGE_LIMIT))
    entries = [{"Id": name, "MessageBody": half} for name in "ab"]
    return refusal(aws.client("sqs").send_message_batch, QueueUrl=url, Entries=entries)


@behaviour(
    "A batch has at most 10 entries",
    document=f"{API}/API_SendMessageBatch.html",
    read=READ,
    relied=("offload/cli/events/dead_letters.py", "offload/runtime/webhooks_out/tokens.py"),
    expected="AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    on=EVERYWHERE,
)
def batch_of_ten(aws: Oracle) -> Any:
    entries = [{"Id": str(number), "MessageBody": "a"} for number in range(11)]
    return refusal(aws.client("sqs").send_message_batch, QueueUrl=aws.queue(), Entries=entries)


@behaviour(
    "Of a batch with one bad entry the others are done, with status 200: the answer names those that failed",
    document=f"{API}/API_DeleteMessageBatch.html",
    read=READ,
    relied=("offload/cli/events/dead_letters.py",),
    expected=[["good"], ["bad"]],
    on=EVERYWHERE,
)
def batch_fails_in_part(aws: Oracle) -> Any:
    sqs, url = aws.client("sqs"), aws.queue()
    sqs.send_message(QueueUrl=url, MessageBody="a")
    (message,) = until(lambda: aws.receive(url)) or [{}]
    answer = sqs.delete_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "good", "ReceiptHandle": message["ReceiptHandle"]},
            {"Id": "bad", "ReceiptHandle": "no receipt"},
        ],
    )
    return [
        sorted(each["Id"] for each in answer.get("Successful", [])),
        [each["Id"] for each in answer.get("Failed", [])],
    ]


@behaviour(
    "A delay of up to 900 seconds hides a new message; more is refused",
    document=f"{API}/API_SendMessage.html",
    read=READ,
    relied=("offload/runtime/webhooks_out/sender.py", "offload/runtime/jobs/table.py"),
    expected=["hidden", "seen", None, "refused"],
    on=EVERYWHERE,
    differs={
        "embedded": Differs(["hidden", "seen", None, None], "it takes any delay; the code cuts its delays itself"),
    },
)
def delay(aws: Oracle) -> Any:
    sqs, url, other = aws.client("sqs"), aws.queue(), aws.queue()
    sqs.send_message(QueueUrl=url, MessageBody="a", DelaySeconds=2)
    at_once = aws.receive(url, wait=0)
    later = until(lambda: aws.receive(url))
    longest = refusal(sqs.send_message, QueueUrl=other, MessageBody="a", DelaySeconds=900)
    longer = refusal(sqs.send_message, QueueUrl=other, MessageBody="a", DelaySeconds=901)
    return [
        "seen" if at_once else "hidden",
        "seen" if later else "hidden",
        longest,
        "refused" if longer else None,
    ]


@behaviour(
    "A FIFO queue takes one message of a deduplication id in five minutes",
    document=f"{GUIDE}/FIFO-key-terms.html",
    read=READ,
    relied=("offload/runtime/webhooks_out/transport.py",),
    expected=["a"],
    on=EVERYWHERE,
)
def deduplicates(aws: Oracle) -> Any:
    sqs, url = aws.client("sqs"), aws.queue(FifoQueue="true")
    for body in ("a", "b"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId="d")
    return [each["Body"] for each in until(lambda: aws.receive(url)) or []]


@behaviour(
    "While a message of a FIFO group is in flight, no later one of its group is handed out, and other groups are",
    document=f"{GUIDE}/using-messagegroupid-property.html",
    read=READ,
    relied=("offload/runtime/webhooks_out/transport.py",),
    expected=["a1", "b1"],
    on=EVERYWHERE,
)
def group_waits(aws: Oracle) -> Any:
    sqs, url = aws.client("sqs"), aws.queue(FifoQueue="true")
    for body in ("a1", "a2", "b1"):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageGroupId=body[0], MessageDeduplicationId=body)
    first = until(lambda: aws.receive(url, most=1)) or []
    second = until(lambda: aws.receive(url, most=1)) or []
    return [each["Body"] for each in first + second]
