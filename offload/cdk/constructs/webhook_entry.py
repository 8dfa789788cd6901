"""The door for third parties' webhooks: an HTTP API, the function that checks who calls, the table of deliveries."""

from __future__ import annotations

import math
from typing import Final

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_apigatewayv2 as api
from aws_cdk import aws_apigatewayv2_integrations as integrations
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from offload.cdk.constructs.acknowledge import acknowledge, declare_signature_check
from offload.cdk.constructs.each_minute import call_each_minute
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.http_api import throttle_route, unsigned_api
from offload.cdk.constructs.log_alarm import alarm_on_log
from offload.cdk.constructs.python_function import PythonFunction
from offload.cdk.constructs.table import Table
from offload.cdk.environment import Environment
from offload.contracts.functions import own
from offload.contracts.webhooks_in.received import WebhookReceived
from offload.contracts.webhooks_in.shards import MOST_A_SECOND, SHARDS
from offload.contracts.webhooks_in.stored_secret import PROVIDERS_MODULE, PROVIDERS_VARIABLE, SECRET_VARIABLE

_CHILD = "Webhooks"
# What `recent` shows of a delivery or a refusal without reading the item itself.
_SHOWN = (
    "after_rotation",
    "delivery_id",
    "duplicates",
    "endpoint",
    "event_id",
    "event_type",
    "key_id",
    "other_ids",
    "outcome",
    "published_at",
    "reason",
    "received_at",
    "source",
    "status",
)
_STRING, _NUMBER = dynamodb.AttributeType.STRING, dynamodb.AttributeType.NUMBER
_BEHIND = Duration.minutes(5)
# Nonsense at one provider's route must leave room for the others: GitHub sends a webhook once and never again.
_SHARE = 2
_BURST: Final = 20
_BURST_WITHIN = Duration.minutes(5)
# SecretDocument without any. It and the key's name stay as they are: when `GenerateSecretString` changes,
# CloudFormation generates the secret again, and the active secrets of every provider are gone.
_NO_SECRETS: Final = '{"providers":{}}'
_GENERATED: Final = "unused"


class WebhookEntry(Construct):
    """One API, receiver, secret, relay and table of deliveries for all providers of a stack."""

    def __init__(self, scope: Construct, construct_id: str, *, bus: EventBus) -> None:
        super().__init__(scope, construct_id)
        self.bus = bus
        self.table = self._table()
        self.secret = self._secret()
        self._providers: list[str] = []
        settings = Environment.of(self).webhooks
        if settings.requests_per_second > MOST_A_SECOND:
            raise ValueError(
                f"[webhooks] requests_per_second = {settings.requests_per_second}: the indexes of deliveries have "
                f"{SHARDS} shards, for {MOST_A_SECOND} webhooks a second; for more, raise SHARDS in "
                "offload/contracts/webhooks_in/shards.py (docs/webhooks.md, 'How many a second')"
            )
        publish, publish_large = bus.publish(WebhookReceived), bus.publish_large(WebhookReceived)
        variables = {"OFFLOAD_DELIVERIES_TABLE": self.table.table_name}
        self.receiver = PythonFunction(
            self,
            "Receiver",
            source=own("webhook_receiver"),
            # Slack waits 3 s (facts in offload/contracts/webhooks_in/providers.py); the function gives up before.
            timeout=Duration.seconds(10),
            memory_mb=512,
            environment={
                **variables,
                **publish_large.variables,
                "OFFLOAD_REFUSED_PER_MINUTE": str(settings.refused_per_minute),
                SECRET_VARIABLE: self.secret.secret_arn,
                PROVIDERS_MODULE: bus.catalogue.providers.module,
            },
        )
        self.table.allow_exactly(self.receiver.role, "PutItem", "UpdateItem")
        publish_large.grant(self.receiver.role)
        iam.Grant.add_to_principal(
            grantee=self.receiver.role,
            actions=["secretsmanager:GetSecretValue"],
            resource_arns=[self.secret.secret_arn],
        )
        declare_signature_check(self.receiver.function, "the provider's of the path: offload/contracts/webhooks_in")
        self.relay = PythonFunction(
            self,
            "Relay",
            source=own("webhook_relay"),
            timeout=Duration.seconds(50),
            environment={**variables, **publish.variables},
        )
        self.table.allow_exactly(self.relay.role, "GetItem", "UpdateItem")
        self.table.allow_query(self.relay.role, "owed")
        publish.grant(self.relay.role)
        call_each_minute(
            self,
            self.relay,
            "Relay",
            stopped="Webhooks that the bus did not take at once have not been sent for five minutes",
            failed="Webhooks that the bus did not take at once cannot be sent: offload logs webhook_relay",
        )
        self._behind_alarm()
        self._refusal_alarms()
        self.http_api, self._stage = unsigned_api(
            self, throttle=api.ThrottleSettings(rate_limit=settings.requests_per_second, burst_limit=settings.burst)
        )
        self._integration = integrations.HttpLambdaIntegration(
            "Receiver",
            self.receiver.function,
            # One permission for all routes: a function's policy has 20 KB (gettingstarted-limits.html, read
            # 2026-11-27), which one a route uses up at some 20 providers, in the middle of a deployment.
            scope_permission_to_route=False,
        )
        CfnOutput(self, "Url", value=self.http_api.api_endpoint, description="Webhooks are sent to /webhooks/PROVIDER")

    @staticmethod
    def of(scope: Construct, bus: EventBus) -> WebhookEntry:
        """The entry of the scope's stack; made when the first receiver asks for it."""
        stack = Stack.of(scope)
        there = stack.node.try_find_child(_CHILD)
        return there if isinstance(there, WebhookEntry) else WebhookEntry(stack, _CHILD, bus=bus)

    def open_for(self, provider: str) -> None:
        """Lets webhooks of a provider in, on each of its routes at most half of what the environment lets in of all."""
        self._providers.append(provider)
        self.receiver.function.add_environment(PROVIDERS_VARIABLE, ",".join(self._providers))
        settings = Environment.of(self).webhooks
        throttle = api.ThrottleSettings(
            rate_limit=math.ceil(settings.requests_per_second / _SHARE), burst_limit=math.ceil(settings.burst / _SHARE)
        )
        for path in (f"/webhooks/{provider}", f"/webhooks/{provider}/{{endpoint}}"):
            for route in self.http_api.add_routes(
                path=path, methods=[api.HttpMethod.POST], integration=self._integration
            ):
                acknowledge(
                    route,
                    "AwsSolutions::AwsSolutions-APIG4",
                    "The function checks the sender's signature on the body, which an authorizer does not see.",
                )
                throttle_route(self._stage, route, throttle)

    def _secret(self) -> secretsmanager.Secret:
        """One for all providers: one function reads them all, and each secret costs by the month."""
        secret = secretsmanager.Secret(
            self,
            "Secrets",
            description="The active secrets of every provider's webhooks: offload webhooks rotate PROVIDER",
            # A document without secrets: the generated key is required, and used for nothing.
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template=_NO_SECRETS, generate_string_key=_GENERATED
            ),
        )
        encrypt(secret)
        acknowledge(
            secret,
            "AwsSolutions::AwsSolutions-SMG4",
            "The senders have the other halves: each is rotated with its sender's, by `offload webhooks rotate`.",
        )
        return secret

    def _table(self) -> Table:
        table = Table(self, "Deliveries", time_to_live="expires")
        table.add_global_secondary_index(
            index_name="recent",
            partition_key=dynamodb.Attribute(name="shown", type=_STRING),
            sort_key=dynamodb.Attribute(name="listed", type=_STRING),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=list(_SHOWN),
        )
        # Nearly always empty: only what the bus does not have yet is in it.
        table.add_global_secondary_index(
            index_name="owed",
            partition_key=dynamodb.Attribute(name="owed", type=_STRING),
            sort_key=dynamodb.Attribute(name="owed_at", type=_NUMBER),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        return table

    def _behind_alarm(self) -> None:
        alarm_on_log(
            self,
            "OldestOwed",
            log_group=self.relay.log_group,
            pattern=logs.FilterPattern.exists("$.oldest_seconds"),
            metric="OldestOwedWebhook",
            value="$.oldest_seconds",
            alarm="BehindAlarm",
            says="The bus does not take webhooks' events: offload webhooks providers",
            threshold=_BEHIND.to_seconds(),
            within=Duration.minutes(1),
            statistic="Maximum",
        )

    def _refusal_alarms(self) -> None:
        """Of all providers together: the commands say whose they were."""
        for name, pattern, says, threshold, within in (
            (
                "Refused",
                logs.FilterPattern.string_value("$.outcome", "=", "refused"),
                "Webhooks are refused in numbers, of whom and why: offload webhooks providers",
                _BURST,
                _BURST_WITHIN,
            ),
            (
                "RefusedAfterRotation",
                logs.FilterPattern.boolean_value("$.after_rotation", True),
                "A wrong signature within a day of a new secret: has its sender got it? offload webhooks providers",
                1,
                Duration.minutes(1),
            ),
        ):
            alarm_on_log(
                self,
                name,
                log_group=self.receiver.log_group,
                pattern=pattern,
                metric=f"Webhooks{name}",
                says=says,
                threshold=threshold,
                within=within,
                statistic="Sum",
            )
