"""Publishing events on the bus of an environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from offload.client.publisher import ClaimStore, Publisher

if TYPE_CHECKING:
    from offload.cli.deployment.resources import Deployment


def publisher_of(deployment: Deployment) -> Publisher:
    """A publisher on the deployment's bus, with its claims bucket."""
    aws = deployment.aws
    claims = ClaimStore(deployment.bucket("Claims"), s3=aws.s3)
    return Publisher(deployment.bus, events=aws.events, claims=claims, retries=aws.retries)
