"""How long tests wait for what must come: long enough for a machine that is many times slower than usual."""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 900.0
"""Seconds. Reached only by what never comes: no test takes it for a measure of anything."""
