"""Draws what was sampled, with a library in an environment of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from uv import find_uv_bin

from offload.project import PROJECT

# The benchmarks' environment for plots has all that this one needs.
_REQUIREMENTS: Final = PROJECT / "bench" / "webhooks" / "requirements.txt"


def plot(samples: Path, file: Path, *, orders: int) -> None:
    """Writes an SVG of orders done, orders a second, memory and disk over the time that the run took."""
    command = [find_uv_bin(), "run", "--quiet", "--isolated", "--no-project", "--python", sys.executable]
    command += ["--with-requirements", str(_REQUIREMENTS), "python", str(Path(__file__).with_name("draw.py"))]
    subprocess.run([*command, str(samples), str(file), str(orders)], check=True)
