"""Who may send the clinic webhooks."""

from __future__ import annotations

from typing import Final

from clinic.contracts.laboratory import LABORATORY
from offload.contracts.webhooks_in.providers import GITHUB, SHOPIFY, SLACK, STANDARD_WEBHOOKS, STRIPE, SVIX
from offload.contracts.webhooks_in.scheme import Providers

PROVIDERS: Final = Providers(__name__, GITHUB, STRIPE, SLACK, SHOPIFY, STANDARD_WEBHOOKS, SVIX, LABORATORY)
