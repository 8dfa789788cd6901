"""The clinic's ledger on a deployed copy."""

from __future__ import annotations

from datetime import date

from clinic.ledger import Figures, read_ledger
from offload.cli.deployment.resources import Deployment


def ledger_of(deployment: Deployment, day: date | None = None) -> Figures:
    """What it comes to, of all days or of one."""
    at = day.isoformat() if day else None
    return read_ledger(deployment.table("Ledger"), deployment.aws.dynamodb, first=at, last=at)
