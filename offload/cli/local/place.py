"""The embedded AWS: its life, what is deployed to it, and what it cannot do by itself."""

from __future__ import annotations

import os
from pathlib import Path

from offload.project import PROJECT

STATE_VARIABLE = "OFFLOAD_STATE"


def state_folder() -> Path:
    """Where the environment `local` keeps everything: the emulator's state, its log, the assemblies.

    `.offload/local` of the checkout, unless the variable OFFLOAD_STATE names another folder (a second copy beside it).
    """
    named = os.environ.get(STATE_VARIABLE)
    return Path(named).resolve() if named else PROJECT / ".offload" / "local"
