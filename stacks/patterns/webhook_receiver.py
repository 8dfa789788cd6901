"""A third party whose webhooks become events."""

from __future__ import annotations

from typing import Final

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct

from offload.contracts.webhooks.providers import PROVIDERS
from offload.contracts.webhooks.scheme import Provider
from offload.contracts.webhooks.stored_secret import secret_variable
from stacks.constructs.acknowledge import acknowledge
from stacks.constructs.event_bus import EventBus
from stacks.constructs.log_alarm import alarm_on_log
from stacks.constructs.webhook_entry import WebhookEntry
from stacks.environment import Environment

_BURST = 20
_BURST_WITHIN = Duration.minutes(5)
# StoredSecrets without any. It and the key's name stay as they are: when `GenerateSecretString` changes, CloudFormation
# generates the secret anew, and the active secrets of every provider are gone.
_NO_SECRETS: Final = '{"secrets":[]}'
_GENERATED: Final = "unused"


class UnusableProvider(Exception):
    """The provider cannot be received as it is; the message is one line for people."""


class WebhookReceiver(Construct):
    """`POST /webhooks/PROVIDER[/ENDPOINT]` → signature → table of deliveries → bus.

    The first one of a stack makes the entry that all of them share (`docs/adr/0014-one-receiver.md`). Each has a secret
    of its own, which is empty until `offload webhooks rotate` fills it, and alarms.

    Raises UnusableProvider.
    """

    def __init__(self, scope: Construct, construct_id: str, *, provider: Provider, bus: EventBus) -> None:
        super().__init__(scope, construct_id)
        self.provider = provider
        if PROVIDERS.get(provider.name) != provider:
            raise UnusableProvider(
                f"{self.node.path}: provider '{provider.name}' is not in PROVIDERS as it is given here, and there the "
                "receiver looks it up: put it into offload/contracts/webhooks/providers.py"
            )
        self._refuse_second_receiver()
        self.entry = WebhookEntry.of(self, bus)
        if self.entry.bus is not bus:
            raise UnusableProvider(
                f"{self.node.path}: the webhooks of a stack go to one bus, {self.entry.bus.node.path}, and not also to "
                f"{bus.node.path}: give every receiver the same, or put this one into a stack of its own"
            )
        self.secret = secretsmanager.Secret(
            self,
            "Secret",
            description=f"The active secrets of {provider.title}'s webhooks: offload webhooks rotate {provider.name}",
            # A document of none: the generated key is nobody's secret, and has to be there.
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template=_NO_SECRETS, generate_string_key=_GENERATED
            ),
            removal_policy=RemovalPolicy.RETAIN if Environment.of(self).data.keep else RemovalPolicy.DESTROY,
        )
        acknowledge(
            self.secret,
            "AwsSolutions::AwsSolutions-SMG4",
            "The sender has the other half: it is rotated with it, by `offload webhooks rotate`.",
        )
        receiver = self.entry.receiver
        iam.Grant.add_to_principal(
            grantee=receiver.role, actions=["secretsmanager:GetSecretValue"], resource_arns=[self.secret.secret_arn]
        )
        receiver.function.add_environment(secret_variable(provider.name), self.secret.secret_arn)
        self.entry.open_for(provider.name)
        self.burst_alarm = self._alarm(
            "Refused",
            logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.provider", "=", provider.name),
                logs.FilterPattern.string_value("$.outcome", "=", "refused"),
            ),
            f"{provider.title}'s webhooks are refused in numbers: offload webhooks recent --provider {provider.name}",
            threshold=_BURST,
            within=_BURST_WITHIN,
        )
        self.rotation_alarm = self._alarm(
            "RefusedAfterRotation",
            logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.provider", "=", provider.name),
                logs.FilterPattern.boolean_value("$.after_rotation", True),
            ),
            f"A wrong signature within a day of a new secret: has {provider.title} got it? offload webhooks providers",
            threshold=1,
            within=Duration.minutes(1),
        )

    def _refuse_second_receiver(self) -> None:
        for other in Stack.of(self).node.find_all():
            if other is not self and isinstance(other, WebhookReceiver) and other.provider.name == self.provider.name:
                constant = self.provider.name.upper().replace("-", "_")
                raise UnusableProvider(
                    f"{self.node.path}: provider '{self.provider.name}' has a receiver already, {other.node.path}: "
                    f"a second account gets a name of its own in PROVIDERS, {constant}.named('…')"
                )

    def _alarm(
        self, name: str, pattern: logs.IFilterPattern, says: str, *, threshold: int, within: Duration
    ) -> cloudwatch.Alarm:
        return alarm_on_log(
            self,
            name,
            log_group=self.entry.receiver.log_group,
            pattern=pattern,
            metric=f"Webhooks{name}-{self.provider.name}",
            says=says,
            threshold=threshold,
            within=within,
            statistic="Sum",
        )
