"""What runs in an environment, and what waits there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.operators import notified
from offload.cli.deployment.resources import Consumer, Deployment
from offload.cli.local.place import state_folder
from offload.cli.local.process import EmbeddedAws
from offload.cli.terminal.screen import Screen
from offload.contracts.functions import folder_of


@dataclass(frozen=True)
class Depth:
    """How many messages a queue holds: to be received, received and not yet deleted, delayed."""

    waiting: int
    in_flight: int
    delayed: int

    @property
    def all(self) -> int:
        """Every message in the queue."""
        return self.waiting + self.in_flight + self.delayed


@dataclass(frozen=True)
class Queues:
    """The depths of one consumer's queues; `dead` and `undeliverable` count every message of the two others."""

    consumer: str
    queue: Depth
    dead: int
    undeliverable: int


def depth(aws: Aws, queue_url: str) -> Depth:
    """Asks SQS for the depth of one queue; on AWS the numbers are approximate."""
    found = aws.sqs.get_queue_attributes(
        QueueUrl=queue_url,
        AttributeNames=[
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ],
    )["Attributes"]
    return Depth(
        waiting=int(found["ApproximateNumberOfMessages"]),
        in_flight=int(found["ApproximateNumberOfMessagesNotVisible"]),
        delayed=int(found["ApproximateNumberOfMessagesDelayed"]),
    )


def depths(deployment: Deployment) -> list[Queues]:
    """The depths of every consumer's queues, by consumer."""
    aws = deployment.aws
    _ = aws.sqs  # made once, before the threads

    def of(consumer: Consumer) -> Queues:
        undeliverable = consumer.rule_dead_letter_queue_url
        return Queues(
            consumer=consumer.name,
            queue=depth(aws, consumer.queue_url),
            dead=depth(aws, consumer.dead_letter_queue_url).all,
            undeliverable=depth(aws, undeliverable).all if undeliverable else 0,
        )

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(of, deployment.consumers()))


def status(deployment: Deployment) -> dict[str, Any]:
    """Everything that `offload status` shows, as plain values."""
    instance = deployment.aws.instance
    embedded = None
    if instance is not None:
        embedded = {
            "endpoint": instance.endpoint,
            "pid": instance.pid,
            "started": instance.started,
            "workers": len(EmbeddedAws(state_folder()).workers()),
        }
    told = notified(deployment)
    return {
        "environment": deployment.environment,
        "embedded": embedded,
        "alarms": None
        if told is None
        else {"address": told.address, "subscription": told.subscribed.value, "remedy": told.remedy},
        "stacks": [{"name": stack.name, "status": stack.status} for stack in deployment.stacks],
        "functions": [
            {"name": each.name, "folder": folder_of(each.source), "function_name": each.function_name}
            for each in deployment.functions()
        ],
        "consumers": [
            {"name": each.consumer, **asdict(each.queue), "dead": each.dead, "undeliverable": each.undeliverable}
            for each in depths(deployment)
        ],
    }


def _told(alarms: dict[str, Any] | None) -> tuple[str, str | None]:
    """The line that says who is told of alarms, and what to do where nobody is; and its style."""
    if alarms is None:
        return "alarms: none, for the environment has no address ([alarms] email)", None
    line = f"alarms go to {alarms['address']}: {alarms['subscription']}"
    return (line, None) if alarms["remedy"] is None else (f"{line}; {alarms['remedy']}", "red")


def show(found: dict[str, Any], console: Screen) -> None:
    """Prints what `status` gave as tables."""
    embedded = found["embedded"]
    if embedded is not None:
        console.print(
            f"embedded AWS at {embedded['endpoint']}, process {embedded['pid']} since {embedded['started']}, "
            f"{embedded['workers']} workers"
        )
    line, style = _told(found["alarms"])
    console.print(line, soft_wrap=True, style=style)
    stacks = Table("stack", "status", title=f"environment {found['environment']}", title_justify="left")
    for stack in found["stacks"]:
        stacks.add_row(stack["name"], stack["status"])
    functions = Table("function", "folder")
    for function in found["functions"]:
        functions.add_row(function["name"], function["folder"])
    queues = Table("consumer")
    columns = ("waiting", "in_flight", "delayed", "dead", "undeliverable")
    for column in columns:
        queues.add_column(column.replace("_", " "), justify="right")
    for consumer in found["consumers"]:
        alarming = "red" if consumer["dead"] or consumer["undeliverable"] else None
        queues.add_row(consumer["name"], *(str(consumer[column]) for column in columns), style=alarming)
    for table in (stacks, functions, queues):
        console.print(table)
