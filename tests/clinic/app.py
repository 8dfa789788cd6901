"""Composes the stacks of one environment."""

from __future__ import annotations

from clinic.stack import compose
from offload.cdk import run

if __name__ == "__main__":
    run(compose)
