"""Environments as tests need them."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from offload.cdk.environment import FOLDER, Alarms, Environment

ADDRESS = "operators@offload-shop.net"


def with_address(name: str, folder: Path = FOLDER) -> Environment:
    """An environment with an address for its alarms: without one it has none. It is the project's, or the folder's."""
    return replace(Environment.load(name, folder), alarms=Alarms(email=ADDRESS))
