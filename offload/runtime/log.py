"""The log of functions: one JSON line at a time on the standard output, in the shape of Powertools' Logger.

Powertools' own would be six of seven bytes of a bundle, and compiled at every cold start (docs/adr/0007). Here is what
of it is used: level, place in the code, message, time, service, X-Ray's trace, fields, an exception with its traceback.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final, Literal

from msgspec.json import encode

Level = Literal["INFO", "WARNING", "ERROR"]

_NO_JSON: Final = (UnicodeEncodeError, TypeError, ValueError, OverflowError, RecursionError)


class Logger:
    """Writes the lines of one service, whose name every line carries. Values of fields are shown, never payloads."""

    def __init__(self, service: str) -> None:
        self._service = service

    def info(self, message: str, **fields: Any) -> None:
        """What happened."""
        _write("INFO", self._service, message, fields, sys._getframe(1))

    def warning(self, message: str, **fields: Any) -> None:
        """Unexpected, but self-healing."""
        _write("WARNING", self._service, message, fields, sys._getframe(1))

    def error(self, message: str, *, exc_info: BaseException | None = None, **fields: Any) -> None:
        """What failed, with the traceback of `exc_info`."""
        _write("ERROR", self._service, message, fields, sys._getframe(1), exc_info)

    def exception(self, message: str, **fields: Any) -> None:
        """What failed, with the traceback of the exception that is being handled."""
        _write("ERROR", self._service, message, fields, sys._getframe(1), sys.exc_info()[1])


def _write(
    level: Level,
    service: str,
    message: str,
    fields: Mapping[str, Any],
    caller: FrameType,
    error: BaseException | None = None,
) -> None:
    now = time.time()
    line = {
        "level": level,
        "location": f"{caller.f_code.co_name}:{caller.f_lineno}",
        "message": message,
        "timestamp": f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(now))},{int(now * 1000) % 1000:03d}+0000",
        "service": service,
        **fields,
    }
    if trace := os.environ.get("_X_AMZN_TRACE_ID"):
        line["xray_trace_id"] = trace.partition(";")[0].removeprefix("Root=")
    if error is not None:
        # Few lines have one.
        import traceback

        line["exception"] = "".join(traceback.format_exception(error))
        line["exception_name"] = type(error).__name__
    # One write, so that lines of several threads do not mix.
    sys.stdout.write(_text(line))
    sys.stdout.flush()


def _text(line: dict[str, Any]) -> str:
    try:
        return encode(line, enc_hook=str).decode() + "\n"
    except _NO_JSON:
        return encode({name: _shown(value) for name, value in line.items()}, enc_hook=str).decode() + "\n"


def _shown(value: object) -> object:
    """The value if it can be told, else its text: half of a surrogate pair, a list in itself."""
    try:
        encode(value, enc_hook=str)
    except _NO_JSON:
        return repr(value).encode(errors="backslashreplace").decode()
    return value
