"""The sender of webhooks as it is deployed: what each of its functions finds in its environment."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cached_property

import msgspec

from offload.contracts.webhooks_out.policy import Policy
from offload.runtime.settings import Settings
from offload.runtime.webhooks_out.deliveries import Deliveries
from offload.runtime.webhooks_out.subscriptions import Subscriptions
from offload.runtime.webhooks_out.tokens import QueueTokens


def utc_now() -> datetime:
    """The time."""
    return datetime.now(UTC)


class SendingSettings(Settings, frozen=True, kw_only=True, dict=True):
    """What the WebhookSender pattern puts into the environment of each function, and what is made of it."""

    offload_subscriptions_table: str
    offload_sending: str
    offload_sender_queue_url: str
    offload_sender_trouble_queue_url: str

    @cached_property
    def policy(self) -> Policy:
        """The promise."""
        return msgspec.json.decode(self.offload_sending, type=Policy)

    @cached_property
    def subscriptions(self) -> Subscriptions:
        """The subscriptions, by the time of this machine."""
        return Subscriptions(self.offload_subscriptions_table, utc_now)

    @cached_property
    def deliveries(self) -> Deliveries:
        """The deliveries, by the time of this machine."""
        return Deliveries(self.offload_subscriptions_table, self.policy, utc_now)

    @cached_property
    def tokens(self) -> QueueTokens:
        """The two lanes."""
        return QueueTokens(self.offload_sender_queue_url, self.offload_sender_trouble_queue_url)
