"""Environments as tests need them."""

from __future__ import annotations

from msgspec.structs import replace

from offload.cdk.environment import Alarms, Environment

ADDRESS = "operators@offload-shop.net"


def with_address(name: str) -> Environment:
    """An environment of the project with an address for its alarms: without one it has none."""
    return replace(Environment.load(name), alarms=Alarms(email=ADDRESS))
