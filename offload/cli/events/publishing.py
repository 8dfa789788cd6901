"""Publishing events on the bus of an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offload.client.publisher import ClaimStore, Publisher

if TYPE_CHECKING:
    from offload.cli.deployment.resources import Deployment


def publisher_of(deployment: Deployment) -> Publisher:
    """A publisher on the deployment's bus, with its claims bucket."""
    claims = ClaimStore(deployment.bucket("Claims"), s3=deployment.aws.s3)
    return Publisher(deployment.bus, events=deployment.aws.events, claims=claims)
