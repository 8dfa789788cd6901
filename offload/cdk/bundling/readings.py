"""What modules say of their imports, kept by their content: a synthesis reads only those that have changed."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from offload.cdk.bundling import imports
from offload.cdk.bundling.imports import Reading

_MOST: Final = 4096
"""Modules kept; beyond, all are read again once, so that those of long ago do not pile up."""


class _Kept(msgspec.Struct):
    """The file: readings by the digest of a module, of the code and the Python that `by` names."""

    by: str
    modules: dict[str, Reading]


class Readings:
    """The modules' readings in a folder that syntheses share."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "readings.json"
        self._modules = _of_file(self._file)
        self._changed = False

    @classmethod
    @functools.cache
    def kept_in(cls, folder: Path) -> Readings:
        """The readings of a folder, read from its file once in a process."""
        return cls(folder)

    def read(self, content: bytes, relative: str) -> Reading:
        """What `imports.read` finds, which raises BundlingError: read only where this content was not read before."""
        # Relative imports and errors depend on the path.
        key = hashlib.sha256(relative.encode() + b"\0" + content).hexdigest()
        found = self._modules.get(key)
        if found is None:
            found = self._modules[key] = imports.read(content, relative)
            self._changed = True
        return found

    def save(self) -> None:
        """Writes down what was read since the last time."""
        if not self._changed:
            return
        self._changed = False
        # A copy: other threads bundle at the same time.
        modules = dict(self._modules)
        kept = _Kept(_reader(), modules if len(modules) <= _MOST else {})
        self._file.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".partial-", dir=self._file.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(kept))
        # In one step: another synthesis may read it.
        Path(draft).replace(self._file)


def _of_file(file: Path) -> dict[str, Reading]:
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=_Kept)
    except (FileNotFoundError, msgspec.DecodeError):
        # Written by other code, or not to its end: everything is read again.
        return {}
    return kept.modules if kept.by == _reader() else {}


@functools.cache
def _reader() -> str:
    """What the readings depend on beside the content: the code that reads, and Python's grammar."""
    code = hashlib.sha256(Path(imports.__file__).read_bytes()).hexdigest()
    return f"{sys.version_info.major}.{sys.version_info.minor} {code}"
