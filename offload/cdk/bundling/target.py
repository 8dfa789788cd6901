"""The Python and the platform that will run a bundle."""

from __future__ import annotations

import platform
import sys
import sysconfig
from dataclasses import dataclass

HOST = "host"

# The newest glibc whose wheels each runtime can load, as uv names it: Python 3.11 runs on Amazon Linux 2 (glibc 2.26),
# 3.12 and later on Amazon Linux 2023 (glibc 2.34).
# docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html, 2026-11-29.
_MANYLINUX = {
    "3.11": "manylinux_2_17",
    "3.12": "manylinux_2_34",
    "3.13": "manylinux_2_34",
    "3.14": "manylinux_2_34",
}
_MACHINE = {"arm64": "aarch64", "x86_64": "x86_64"}


@dataclass(frozen=True)
class Target:
    """Where a bundle will run.

    `python` is a version such as "3.13"; `uv_platform` is uv's name of the platform, None for the machine at hand;
    `identity` is what enters a bundle's hash.
    """

    python: str
    uv_platform: str | None
    identity: str

    @staticmethod
    def of(python: str, architecture: str) -> Target:
        """The target of an environment's settings: `python` "3.11" to "3.14" or "host", `architecture` "arm64",
        "x86_64" or "host". Raises ValueError for anything else, and when only one of them is "host".
        """  # noqa: D205
        if (python == HOST) != (architecture == HOST):
            raise ValueError(f"python = '{python}' and architecture = '{architecture}': both are \"host\", or neither")
        if python == HOST:
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            # SOABI tells musl from glibc, get_platform() the machine and (on macOS) the system's version.
            abi = f"{sysconfig.get_platform()}-{sysconfig.get_config_var('SOABI')}"
            return Target(version, None, f"host-{version}-{abi}")
        if python not in _MANYLINUX or architecture not in _MACHINE:
            raise ValueError(
                f"python = '{python}', architecture = '{architecture}': no such Lambda runtime is known here"
            )
        uv_platform = f"{_MACHINE[architecture]}-{_MANYLINUX[python]}"
        return Target(python, uv_platform, f"{python}-{uv_platform}")

    @property
    def label(self) -> str:
        """How errors name it, e.g. "Python 3.13 on aarch64-manylinux_2_34"."""
        return f"Python {self.python} on {self.uv_platform or f'this machine ({platform.machine()})'}"
