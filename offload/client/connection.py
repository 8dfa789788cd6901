"""Where the deployment is that the monolith talks to: environment variables, which `offload connect` prints.

Credentials, Region and the endpoint of another AWS (AWS_ENDPOINT_URL) are the SDK's own variables.
"""

from __future__ import annotations

import os
from typing import Final

BUS: Final = "OFFLOAD_BUS"
"""The event bus's name."""
CLAIMS_BUCKET: Final = "OFFLOAD_CLAIMS_BUCKET"
"""The bucket for the data of large events; without it they are refused."""
JOBS_URL: Final = "OFFLOAD_JOBS_URL"
"""The URL of the job service's API."""
SUBSCRIPTIONS_URL: Final = "OFFLOAD_SUBSCRIPTIONS_URL"
"""The URL of the API of subscriptions and deliveries."""


class NotConnected(Exception):
    """A variable is missing that says where the deployment is."""

    def __init__(self, variable: str) -> None:
        self.variable = variable
        super().__init__(f"{variable} is not set: `offload connect ENV --format env` prints it")


def bus() -> str:
    """The bus that events are published on; raises NotConnected."""
    return _required(BUS)


def claims_bucket() -> str | None:
    """The claims bucket, None when the variable is not set."""
    return os.environ.get(CLAIMS_BUCKET) or None


def jobs_url() -> str:
    """The job service's URL; raises NotConnected."""
    return _required(JOBS_URL)


def subscriptions_url() -> str:
    """The URL of the API of subscriptions; raises NotConnected."""
    return _required(SUBSCRIPTIONS_URL)


def _required(variable: str) -> str:
    if value := os.environ.get(variable):
        return value
    raise NotConnected(variable)
