"""Third parties that are told of events: their subscriptions, and what sends to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import msgspec.inspect
from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from offload.cdk.access import Access
from offload.cdk.constructs.acknowledge import acknowledge, permit_unused
from offload.cdk.constructs.each_minute import call_each_minute
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.event_bus import grant_put_events, sources_of
from offload.cdk.constructs.http_api import signed_api
from offload.cdk.constructs.log_alarm import alarm_on_log, metric_of_log
from offload.cdk.constructs.python_function import PythonFunction
from offload.cdk.constructs.table import Table
from offload.cdk.constructs.work_queue import DeadLetterQueue, WorkQueue
from offload.cdk.environment import Environment
from offload.cdk.patterns.background_job import BackgroundJob
from offload.cdk.patterns.event_consumer import EventConsumer
from offload.cdk.refusal import Unusable
from offload.contracts.events.audience import Whose
from offload.contracts.events.event import EventData
from offload.contracts.functions import own
from offload.contracts.jobs.job_type import JobType
from offload.contracts.webhooks_out.api import ROUTES
from offload.contracts.webhooks_out.events import SUBSCRIPTION_EVENTS
from offload.contracts.webhooks_out.policy import POLICY_VARIABLE
from offload.contracts.webhooks_out.recovery import DELIVERY_BATCH, Recovered, Recovery

if TYPE_CHECKING:
    from offload.cdk.platform import Platform

# An attempt (20 s at the most, offload/contracts/webhooks_out/policy.py), its record, and rounds before it.
_SENDER_TIMEOUT = Duration.seconds(45)
_TOKENS_AT_ONCE = 10
_TOKEN_ATTEMPTS = 5
_LATE = Duration.minutes(15)
_GIVEN_UP = 10
_STRING, _NUMBER = dynamodb.AttributeType.STRING, dynamodb.AttributeType.NUMBER
# What lists show of a delivery.
_LISTED = (
    "attempts",
    "changed_at",
    "created_at",
    "error",
    "event",
    "next_at",
    "reason",
    "sent_again",
    "source",
    "state",
    "status",
    "subject",
    "tenant",
    "type",
)


class UnusableSender(Unusable):
    """A sender of webhooks that cannot be deployed as it is; one line with the construct and the fix."""


class WebhookSender(Construct):
    """Bus → planner → table of deliveries → tokens in two lanes → sender → the subscribers' endpoints.

    `events` are what third parties can subscribe to; each contract declares its AUDIENCE. Subscriptions are made by the
    API, an HTTP API signed with IAM, or by `offload subscriptions`. What it costs while nothing is sent is in
    docs/costs.md.

    `recovery` is the type of the background job that brings deliveries back (`offload deliveries recover`). The job
    stands beside the sender, as `DeliveryBatch`. A second sender of an environment is in a stack of its own, and has a
    type of its own (`recovery_named`).

    Raises UnusableSender, and ValueError, naming the type, for one that does not say who may be told of it.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        events: Sequence[type[EventData]],
        platform: Platform,
        recovery: JobType[Recovery, Recovered] = DELIVERY_BATCH,
    ) -> None:
        super().__init__(scope, construct_id)
        bus = platform.bus
        if refusal := self._refusal(platform, recovery):
            raise UnusableSender(f"{self.node.path}: {refusal}")
        for contract in events:
            _check_audience(self.node.path, contract)
        environment = Environment.of(self)
        self.table = self._table()
        self.sealing_key = self._sealing_key()
        self.token_dead_letters = DeadLetterQueue(self, "TokenDeadLetters")
        self.well = self._lane("WellTokens")
        self.trouble = self._lane("TroubleTokens") if environment.queues.lanes == "each" else self.well
        self.lanes = tuple(dict.fromkeys((self.well, self.trouble)))
        self.variables = {
            "OFFLOAD_SUBSCRIPTIONS_TABLE": self.table.table_name,
            "OFFLOAD_SENDER_QUEUE_URL": self.well.queue_url,
            "OFFLOAD_SENDER_TROUBLE_QUEUE_URL": self.trouble.queue_url,
            POLICY_VARIABLE: msgspec.json.encode(environment.sending.policy).decode(),
        }
        self._catalogue = bus.catalogue_variables
        publish = bus.publish(*SUBSCRIPTION_EVENTS)
        # What is sent on is of the types that subscriptions can name, and trials of the API.
        self._sources = sources_of((*events, *SUBSCRIPTION_EVENTS))
        outside = {
            "OFFLOAD_SEALING_SECRET": self.sealing_key.secret_arn,
            **environment.egress.variables(),
        }
        self.planner = EventConsumer(
            self,
            "Planner",
            source=own("delivery_planner"),
            events=events,
            bus=bus,
            grants=(self.owe,),
        )
        self.sender = PythonFunction(
            self,
            "Sender",
            source=own("delivery_sender"),
            timeout=_SENDER_TIMEOUT,
            memory_mb=512,
            environment={**self.variables, **outside, **publish.variables, **self._catalogue},
        )
        self.table.allow_exactly(
            self.sender.role, "GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem"
        )
        publish.grant(self.sender.role)
        for lane in self.lanes:
            lane.work_off(self.sender, batch_size=_TOKENS_AT_ONCE, concurrency=environment.sending.concurrency)
        self.sweeper = PythonFunction(
            self, "Timekeeper", source=own("delivery_sweeper"), timeout=Duration.seconds(50), environment=self.variables
        )
        self.table.allow_exactly(self.sweeper.role, "GetItem", "BatchGetItem", "Query")
        self.table.allow_query(self.sweeper.role, "wake")
        self.api_function = PythonFunction(
            self,
            "Api",
            source=own("subscriptions_api"),
            # An HTTP API waits 30 s at the most.
            timeout=Duration.seconds(29),
            memory_mb=512,
            environment={
                **self.variables,
                **outside,
                **self._catalogue,
                "OFFLOAD_SENDING_DESTINATIONS": ",".join(environment.sending.destinations),
            },
        )
        self.table.allow_exactly(
            self.api_function.role, "GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem", "DeleteItem"
        )
        self.table.allow_query(self.api_function.role, "listed", "events")
        for function in (self.sender, self.sweeper):
            self._send_tokens(function.role)
        self._send_unproven(self.api_function.role)
        for function in (self.sender, self.api_function):
            iam.Grant.add_to_principal(
                grantee=function.role,
                actions=["secretsmanager:GetSecretValue"],
                resource_arns=[self.sealing_key.secret_arn],
            )
            self._reach_destinations(function.role)
        for destination in environment.sending.destinations:
            service = destination.split(":")[2]
            permit_unused(
                self.api_function.role,
                ["sqs:SendMessage", "sqs:GetQueueUrl"] if service == "sqs" else ["events:PutEvents"],
                destination,
                "A trial of a subscription to this destination sends there as the sender does; tests try the sender.",
            )
        call_each_minute(
            self,
            self.sweeper,
            "Timekeeper",
            stopped="No retry of a webhook has been started for five minutes: offload logs delivery_sweeper",
            failed="The senders of webhooks cannot be woken: offload logs delivery_sweeper",
        )
        self.http_api = signed_api(self, ROUTES, self.api_function)
        self._metrics()
        self._alarms()
        CfnOutput(self, "Url", value=self.http_api.api_endpoint, description="The API of subscriptions")
        self.recovery = BackgroundJob(
            # Beside the sender, where stacks had it before: its queues keep their logical ids.
            scope,
            "DeliveryBatch",
            source=own("delivery_batch"),
            job=recovery,
            service=platform.jobs,
            grants=(self.send_again, bus.replay, platform.read_journal),
            variables={"OFFLOAD_PLANNER_RULE": self.planner.rule.rule_arn},
        )

    def _refusal(self, platform: Platform, recovery: JobType[Recovery, Recovered]) -> str | None:
        """Why the app cannot have this sender, and the fix; None when it can."""
        catalogue = platform.bus.catalogue
        if not catalogue.sends_webhooks:
            return (
                f"the catalogue says that the app sends no webhooks: give {catalogue.module} outward=(…), an example "
                "of each event type that third parties may subscribe to, or () for those of the framework alone"
            )
        for other in Stack.of(self).node.find_all():
            if other is not self and isinstance(other, WebhookSender):
                return f"its stack has a sender already, {other.node.path}: put this one into a stack of its own"
        if taken := platform.jobs.places.get(recovery.name):
            return (
                f"its recovery, the job type '{recovery.name}', is that of {taken} already: add a type of its own, "
                f"recovery_named('…') of offload.contracts.webhooks_out.recovery, to the jobs of {catalogue.module}, "
                "and give it as recovery=…"
            )
        return None

    @property
    def owe(self) -> Access:
        """May owe events to subscriptions, and wake their senders."""
        return Access(self._grant_owing, self.variables | self._catalogue)

    def _grant_owing(self, grantee: iam.IGrantable) -> None:
        self.table.allow_exactly(grantee, "GetItem", "BatchGetItem", "Query", "PutItem")
        self._send_tokens(grantee)

    @property
    def send_again(self) -> Access:
        """May look up deliveries, and send them again."""
        return Access(self._grant_sending_again, self.variables | self._catalogue)

    def _grant_sending_again(self, grantee: iam.IGrantable) -> None:
        self.table.allow_exactly(grantee, "GetItem", "BatchGetItem", "Query", "PutItem", "UpdateItem")
        self.table.allow_query(grantee, "listed")
        self._send_unproven(grantee)

    def _send_tokens(self, grantee: iam.IGrantable) -> None:
        for lane in self.lanes:
            lane.grant(grantee, "sqs:SendMessage")

    def _send_unproven(self, grantee: iam.IGrantable) -> None:
        """Wakes senders of endpoints of which nobody knows whether they are healthy: in the other lane alone."""
        self.trouble.grant(grantee, "sqs:SendMessage")

    def _reach_destinations(self, grantee: iam.IGrantable) -> None:
        destinations = Environment.of(self).sending.destinations
        queues = [each for each in destinations if each.split(":")[2] == "sqs"]
        if queues:
            iam.Grant.add_to_principal(
                grantee=grantee, actions=["sqs:SendMessage", "sqs:GetQueueUrl"], resource_arns=queues
            )
        for bus in (each for each in destinations if each.split(":")[2] == "events"):
            grant_put_events(grantee, bus, self._sources)

    def _lane(self, name: str) -> WorkQueue:
        return WorkQueue(
            self, name, timeout=_SENDER_TIMEOUT, attempts=_TOKEN_ATTEMPTS, dead_letters=self.token_dead_letters
        )

    def _table(self) -> Table:
        table = Table(self, "Subscriptions", time_to_live="expires")
        table.add_global_secondary_index(
            index_name="listed",
            partition_key=dynamodb.Attribute(name="subscription", type=_STRING),
            sort_key=dynamodb.Attribute(name="listed", type=_STRING),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=list(_LISTED),
        )
        table.add_global_secondary_index(
            index_name="events",
            partition_key=dynamodb.Attribute(name="event", type=_STRING),
            sort_key=dynamodb.Attribute(name="listed", type=_STRING),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        # Only endpoints that somebody has to look at are in it.
        table.add_global_secondary_index(
            index_name="wake",
            partition_key=dynamodb.Attribute(name="wake", type=_STRING),
            sort_key=dynamodb.Attribute(name="wake_at", type=_NUMBER),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=["health"],
        )
        return table

    def _sealing_key(self) -> secretsmanager.Secret:
        # A change here would generate it anew; the second one loses every subscription's secret, unless between them
        # `offload subscriptions rotate-sealing-key` has sealed them anew.
        secret = secretsmanager.Secret(
            self,
            "SealingKey",
            description="Seals what subscriptions hold in secret: without it none of them can be sent to",
            generate_secret_string=secretsmanager.SecretStringGenerator(password_length=64, exclude_punctuation=True),
        )
        encrypt(secret)
        acknowledge(
            secret,
            "AwsSolutions::AwsSolutions-SMG4",
            "A new key needs everything sealed anew, and offload subscriptions rotate-sealing-key does both.",
        )
        return secret

    def _metrics(self) -> None:
        for name, message in (("Failing", "subscription failing"), ("Recovered", "subscription recovered")):
            metric_of_log(
                self,
                name,
                log_group=self.sender.log_group,
                pattern=logs.FilterPattern.string_value("$.message", "=", message),
                metric=f"Deliveries{name}",
            )

    def _alarms(self) -> None:
        self._alarm(
            "Paused",
            self.sender,
            logs.FilterPattern.string_value("$.message", "=", "subscription paused"),
            "1",
            "A subscription is paused, for its endpoint failed for long or is gone: offload subscriptions list",
        )
        self._alarm(
            "GivenUp",
            self.sender,
            logs.FilterPattern.string_value("$.message", "=", "given up"),
            "1",
            "Deliveries were given up in numbers: offload deliveries list --state given_up",
            threshold=_GIVEN_UP,
        )
        self._alarm(
            "Late",
            self.sweeper,
            logs.FilterPattern.exists("$.oldest_seconds"),
            "$.oldest_seconds",
            "Deliveries are due and nobody sends them: offload audit, offload logs delivery_sender",
            threshold=_LATE.to_seconds(),
            statistic="Maximum",
        )
        self.token_dead_letters.alarm(
            self, "TokensAlarm", says="A sender of webhooks fails again and again: offload logs delivery_sender"
        )

    def _alarm(
        self,
        name: str,
        function: PythonFunction,
        pattern: logs.IFilterPattern,
        value: str,
        says: str,
        *,
        threshold: float = 1,
        statistic: str = "Sum",
    ) -> None:
        alarm_on_log(
            self,
            name,
            log_group=function.log_group,
            pattern=pattern,
            metric=f"Deliveries{name}",
            value=value,
            says=says,
            threshold=threshold,
            within=Duration.minutes(5),
            statistic=statistic,
        )


def _check_audience(path: str, contract: type[EventData]) -> None:
    """Raises ValueError when the contract does not say whose its events are, or says it by a field that cannot."""
    where, audience = f"{path}: event type '{contract.TYPE}' ({contract.__name__})", contract.AUDIENCE
    if audience is None:
        raise ValueError(
            f"{where} may go out to tenants and does not say whose it is: set its AUDIENCE to EVERYBODY, OPERATORS or "
            "tenant_in('FIELD') of offload.contracts.events.audience"
        )
    if audience.whose is not Whose.TENANT:
        return
    described = msgspec.inspect.type_info(contract)
    fields = (
        {each.name: each.type for each in described.fields} if isinstance(described, msgspec.inspect.StructType) else {}
    )
    if not _is_text(fields.get(audience.field)):
        raise ValueError(
            f"{where} is the tenant's in its field '{audience.field}', which is no field of it, or no text: name one "
            f"that is, as tenant_in('FIELD'), of {', '.join(fields)}"
        )


def _is_text(kind: msgspec.inspect.Type | None) -> bool:
    match kind:
        case msgspec.inspect.Metadata():
            return _is_text(kind.type)
        case msgspec.inspect.UnionType():
            rest = [each for each in kind.types if not isinstance(each, msgspec.inspect.NoneType)]
            return all(_is_text(each) for each in rest)
        case _:
            return isinstance(kind, msgspec.inspect.StrType)
