"""A third party whose webhooks become events."""

from __future__ import annotations

from aws_cdk import Stack
from constructs import Construct

from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.webhook_entry import WebhookEntry
from offload.cdk.refusal import Unusable
from offload.contracts.webhooks_in.scheme import Provider


class UnusableProvider(Unusable):
    """The provider cannot be received as it is; the message is one line for people."""


class WebhookReceiver(Construct):
    """`POST /webhooks/PROVIDER[/ENDPOINT]` → signature → table of deliveries → bus.

    The first one of a stack makes the entry that all of them share, with its secret and its alarms
    (`docs/adr/0014-one-receiver.md`). A provider has no active secret until `offload webhooks rotate` makes one.

    Raises UnusableProvider.
    """

    def __init__(self, scope: Construct, construct_id: str, *, provider: Provider, bus: EventBus) -> None:
        super().__init__(scope, construct_id)
        self.provider = provider
        known = bus.catalogue.providers
        if known.get(provider.name) != provider:
            raise UnusableProvider(
                f"{self.node.path}: provider '{provider.name}' is not in the catalogue as it is given here, and there "
                f"the receiver looks it up: add it to PROVIDERS of {known.module or bus.catalogue.module}"
            )
        self._refuse_second_receiver()
        self.entry = WebhookEntry.of(self, bus)
        if self.entry.bus is not bus:
            raise UnusableProvider(
                f"{self.node.path}: the webhooks of a stack go to one bus, {self.entry.bus.node.path}, and not also to "
                f"{bus.node.path}: give every receiver the same, or put this one into a stack of its own"
            )
        self.entry.open_for(provider.name)

    def _refuse_second_receiver(self) -> None:
        for other in Stack.of(self).node.find_all():
            if other is not self and isinstance(other, WebhookReceiver) and other.provider.name == self.provider.name:
                constant = self.provider.name.upper().replace("-", "_")
                raise UnusableProvider(
                    f"{self.node.path}: provider '{self.provider.name}' has a receiver already, {other.node.path}: "
                    f"a second account gets a name of its own in PROVIDERS, {constant}.named('…')"
                )
