"""A function that takes the events of some types from its own queue."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from constructs import Construct

from offload.cdk.access import Access
from offload.cdk.constructs.acknowledge import acknowledge
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.python_function import PythonFunction
from offload.cdk.constructs.table import Table
from offload.cdk.constructs.work_queue import DeadLetterQueue, WorkQueue
from offload.cdk.patterns.integration import UnusableIntegration
from offload.contracts.calls import third_party_of
from offload.contracts.events.event import EventData

_TIMEOUT = Duration.seconds(10)
_BATCH_SIZE = 10
_ATTEMPTS = 5
PATIENCE = Duration.hours(4)
"""How long an event waits for a third party that is down, unless the consumer says otherwise."""
# The queue keeps a message for four days, and a dead letter is to have some of them left.
_MOST_PATIENCE = Duration.days(3)
# offload/runtime/events/consumer.py: after ten tries, a quarter of an hour at most, at least 450 s are to the next.
_FIRST_TRIES = 10
_LEAST_WAIT = Duration.seconds(450)
# What a function needs beside its calls, and the client leaves it (offload/runtime/http/client.py).
_RESERVE = Duration.seconds(2)
CONCURRENCY = 5
"""Batches of one consumer at once, unless it says otherwise."""
# Older than this and the consumer does not keep up, or does not run.
_TOO_OLD = Duration.minutes(15)


class EventConsumer(Construct):
    """Bus → rule → queue → function → dead-letter queue.

    `source` is the function's folder in lambdas/; `events` are the types it takes, none for every event of the bus.
    `grants` is what it may touch. `timeout` is for a batch of `batch_size` events; `attempts` is how often an event is
    tried before it is a dead letter; `concurrency` how many batches run at once, unless the environment leaves that to
    Lambda. `variables` are its own settings.

    Of a consumer that calls third parties (`grants` has an Integration's `call`), `patience` is how long an event waits
    for one that is down, or whose rate is used up; that counts as no attempt. None: it counts as any failure does.
    `calls` is how many calls a batch makes at the most, one for each event unless it says otherwise. Raises
    UnusableIntegration where those do not fit into `timeout`, and for a patience of over three days.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        source: str,
        events: Sequence[type[EventData]],
        bus: EventBus,
        grants: Sequence[Access] = (),
        variables: Mapping[str, str] | None = None,
        timeout: Duration = _TIMEOUT,
        batch_size: int = _BATCH_SIZE,
        attempts: int = _ATTEMPTS,
        concurrency: int = CONCURRENCY,
        patience: Duration | None = PATIENCE,
        calls: int | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        third_parties = _third_parties(grants)
        _check_fit(self, third_parties, timeout, batch_size if calls is None else calls)
        waits = patience if third_parties else None
        if waits is not None and waits.to_seconds() > _MOST_PATIENCE.to_seconds():
            raise UnusableIntegration(
                f"{self.node.path}: patience: its queue keeps events for four days: three at most"
            )
        self.dead_letter_queue = DeadLetterQueue(self, "DeadLetterQueue")
        self.queue = WorkQueue(
            self,
            "Queue",
            timeout=timeout,
            # An event that waits is received again and again, and those times are the function's to count.
            attempts=attempts + _tries_within(waits) if waits else attempts,
            dead_letters=self.dead_letter_queue,
        )
        # Of events that fail by themselves beside others that wait, it keeps the number for some days.
        self.marks = Table(self, "Marks", time_to_live="expires" if waits else None)
        self.function = PythonFunction(
            self,
            "Function",
            source=source,
            timeout=timeout,
            environment={
                "OFFLOAD_CONSUMER": construct_id,
                "OFFLOAD_QUEUE_URL": self.queue.queue_url,
                "OFFLOAD_DEAD_LETTER_QUEUE_URL": self.dead_letter_queue.queue_url,
                "OFFLOAD_MARKS_TABLE": self.marks.table_name,
                "OFFLOAD_CLAIMS_BUCKET": bus.claims.bucket_name,
                "OFFLOAD_ATTEMPTS": str(attempts),
                **({"OFFLOAD_PATIENCE_SECONDS": str(waits.to_seconds())} if waits else {}),
                **{name: value for access in grants for name, value in access.variables.items()},
                **(variables or {}),
            },
        )
        self._grant(bus, grants)
        self.queue.work_off(self.function, batch_size=batch_size, concurrency=concurrency)
        self.rule_dead_letter_queue = DeadLetterQueue(self, "RuleDeadLetterQueue")
        acknowledge(
            self.rule_dead_letter_queue,
            "AwsSolutions::AwsSolutions-SQS3",
            "It is a dead-letter queue, of a rule's target; cdk-nag knows only those of queues.",
        )
        self.rule = self._rule(bus, events)
        look = f"offload dead-letters list --consumer {construct_id}"
        self.dead_letter_alarm = self.dead_letter_queue.alarm(
            self, "DeadLetterAlarm", says=f"{construct_id} gave up on events: {look}"
        )
        self.rule_dead_letter_alarm = self.rule_dead_letter_queue.alarm(
            self, "RuleDeadLetterAlarm", says=f"{construct_id} did not get events: {look}"
        )
        self.age_alarm = self.queue.metric_approximate_age_of_oldest_message(statistic="Maximum").create_alarm(
            self,
            "AgeAlarm",
            alarm_description=f"{construct_id} has left events waiting for over {_TOO_OLD.to_minutes()} minutes",
            threshold=_TOO_OLD.to_seconds(),
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    @property
    def alarms(self) -> tuple[cloudwatch.Alarm, ...]:
        """Every alarm of this consumer."""
        return (self.dead_letter_alarm, self.rule_dead_letter_alarm, self.age_alarm)

    def _grant(self, bus: EventBus, grants: Sequence[Access]) -> None:
        role = self.function.role
        self.dead_letter_queue.grant(role, "sqs:SendMessage")
        # BatchGetItem and Query read marks and tallies, Delete is the fold's.
        self.marks.allow(role, "PutItem", "UpdateItem", "DeleteItem", "GetItem", "BatchGetItem", "Query")
        bus.grant_read_claims(role)
        for access in grants:
            access.grant(role)

    def _rule(self, bus: EventBus, types: Sequence[type[EventData]]) -> events.Rule:
        pattern = (
            events.EventPattern(
                source=sorted({contract.SOURCE for contract in types}),
                detail_type=sorted(contract.TYPE for contract in types),
            )
            if types
            else events.EventPattern(account=[bus.bus.env.account])
        )
        return events.Rule(
            self,
            "Rule",
            event_bus=bus.bus,
            event_pattern=pattern,
            targets=[targets.SqsQueue(self.queue, dead_letter_queue=self.rule_dead_letter_queue)],
        )


def _third_parties(grants: Sequence[Access]) -> Mapping[str, float]:
    """The third parties that a function may call, and how many seconds a call of each takes at the most."""
    return {
        third_party: json.loads(value)["total_seconds"]
        for access in grants
        for name, value in access.variables.items()
        if (third_party := third_party_of(name)) is not None
    }


def _check_fit(scope: Construct, third_parties: Mapping[str, float], timeout: Duration, calls: int) -> None:
    """Refuses calls for which a function has no time: the last events of a batch would wait behind one that hangs."""
    for name, seconds in third_parties.items():
        if calls * seconds + _RESERVE.to_seconds() > timeout.to_seconds():
            raise UnusableIntegration(
                f"{scope.node.path}: a batch makes up to {calls} calls of '{name}', which take {seconds:g} s each at"
                f" the most, and its function has {timeout.to_seconds()} s: set a longer timeout, a smaller batch_size,"
                " a shorter total_seconds of the Integration, or calls=N where a batch makes fewer"
            )


def _tries_within(patience: Duration) -> int:
    """How often an event may be received while it waits; one that kills its function is given up on before that."""
    return _FIRST_TRIES + math.ceil(patience.to_seconds() / _LEAST_WAIT.to_seconds())
