"""A webhook's log lines: what is empty is left out."""

from __future__ import annotations

from typing import Any

from offload.runtime.log import Level, Logger


def log_line(service: str, message: str, *, level: Level = "INFO", **fields: Any) -> None:
    """Writes a line."""
    told = {name: value for name, value in fields.items() if value not in ("", [])}
    log = Logger(service)
    if level == "INFO":
        log.info(message, **told)
    else:
        log.warning(message, **told)
