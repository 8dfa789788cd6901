"""Bytecode beside a bundle's modules, so that a cold start compiles nothing.

Lambda's file system is read-only: what has no bytecode is compiled anew in every execution environment. Bytecode is of
use to the Python version that made it alone, so a bundle has it when its target has the version that synthesizes. It is
no part of a bundle's hash, and says nothing of the machine that made it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import marshal
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Where Lambda has a function's files: what code objects name as theirs, wherever they were compiled. An import sets it
# to where the file really is.
_ROOT: Final = "/var/task"
# PEP 552: a hash of the source stands in the place of its time, and is not checked. Times do not outlast zip files.
_UNCHECKED_HASH: Final = 0b01

_made: dict[tuple[str, bytes], bytes] = {}
"""By path in a bundle and the source's digest: functions of one synthesis share most of their packages."""


def compiles_for(python: str) -> bool:
    """Whether this interpreter's bytecode is of use to Python `python`, such as "3.13"."""
    return sys.implementation.name == "cpython" and python == f"{sys.version_info.major}.{sys.version_info.minor}"


def compile_modules(tree: Path, relatives: Iterable[str]) -> None:
    """Leaves bytecode of the modules of `tree` that `relatives` name in its `__pycache__` folders.

    A file that is no Python of this version is left out: importing it, if anybody does, says why.
    """
    for relative in relatives:
        if not relative.endswith(".py"):
            continue
        path = tree / relative
        content = _bytecode(relative, path.read_bytes())
        if content:
            folder = path.parent / "__pycache__"
            folder.mkdir(exist_ok=True)
            into = folder / f"{path.stem}.{sys.implementation.cache_tag}.pyc"
            into.write_bytes(content)
            into.chmod(0o644)


def _bytecode(relative: str, source: bytes) -> bytes:
    key = relative, hashlib.sha256(source).digest()
    if key not in _made:
        _made[key] = _compile(relative, source)
    return _made[key]


def _compile(relative: str, source: bytes) -> bytes:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = compile(source, f"{_ROOT}/{relative}", "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return b""
    flags = _UNCHECKED_HASH.to_bytes(4, "little")
    return importlib.util.MAGIC_NUMBER + flags + importlib.util.source_hash(source) + marshal.dumps(code)
