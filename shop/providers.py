"""Who may send the shop webhooks. A new provider is added here, and received by a WebhookReceiver of a stack."""

from __future__ import annotations

from typing import Final

from offload.contracts.webhooks_in.providers import GITHUB, SHOPIFY, SLACK, STANDARD_WEBHOOKS, STRIPE, SVIX
from offload.contracts.webhooks_in.scheme import Providers
from shop.contracts.warehouse import WAREHOUSE

# In a module of its own: the receiver's cold start, which a provider waits for, pays for nothing else of the catalogue.
PROVIDERS: Final = Providers(__name__, GITHUB, STRIPE, SLACK, SHOPIFY, STANDARD_WEBHOOKS, SVIX, WAREHOUSE)
