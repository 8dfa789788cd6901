"""What a monolith needs in its environment to reach a deployment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from offload.cli import terminal
from offload.client.connection import BUS, CLAIMS_BUCKET, JOBS_URL, SUBSCRIPTIONS_URL

if TYPE_CHECKING:
    from offload.cli.deployment.resources import Deployment


class Format(StrEnum):
    """How the variables are printed."""

    ENV = "env"
    JSON = "json"


def variables(deployment: Deployment, *, stack: str | None = None) -> dict[str, str]:
    """The environment variables by their names, without those of what is not deployed.

    Those of the embedded AWS have its credentials, which are made up and open nothing else; those of an environment
    on AWS have none. Where several stacks send webhooks, `stack` says whose API of subscriptions is meant.

    Raises Failure where several do and none is named.
    """
    from offload.cli.deployment.aws import shell_settings

    jobs = deployment.job_service_or_none()
    subscriptions = deployment.sender_of(stack) if deployment.subscription_services or stack else None
    found = {
        BUS: deployment.bus_or_none(),
        CLAIMS_BUCKET: deployment.bucket_or_none("Claims"),
        JOBS_URL: jobs.endpoint if jobs else None,
        SUBSCRIPTIONS_URL: subscriptions.endpoint if subscriptions else None,
        "AWS_REGION": str(deployment.aws.session.region_name),
    }
    there = {name: value for name, value in found.items() if value is not None}
    aws = deployment.aws
    return there if aws.instance is None else there | shell_settings(aws.instance, aws.account, aws.region)


def show(found: Mapping[str, str], form: Format) -> None:
    """Prints the variables: `export` lines for a POSIX shell, or one JSON object."""
    if form is Format.JSON:
        terminal.print_json(dict(found))
        return
    for name, value in found.items():
        terminal.line(f"export {name}={shlex.quote(value)}")
