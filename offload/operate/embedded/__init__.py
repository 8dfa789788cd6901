"""The embedded AWS: its life, what is deployed to it, and what it cannot do by itself."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]
"""The checkout's root: app.py, .venv, node_modules and .offload are in it."""

STATE = PROJECT / ".offload" / "local"
"""Where the environment `local` keeps everything: the emulator's state, its log, the assemblies."""
