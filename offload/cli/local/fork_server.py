"""Forks workers of functions for the embedded AWS: `python fork_server.py CONTROL PADDING`, started by emulator.py.

Runs in the emulator's own environment and imports nothing of this project. It has imported botocore, as every worker
would for itself, and answers each request with a new process that runs the worker's script as a fresh interpreter
would: with its own environment, working folder, pipes and command line. What a fork cannot give is refused, and the
emulator starts a fresh interpreter.

CONTROL is the number of a socket (SOCK_SEQPACKET). A request is JSON with `script`, `cwd` and `environment`, and three
file descriptors for stdin, stdout and stderr. The answer is the process's id, with a descriptor of it, or `no`.
PADDING makes room for the workers' own command lines.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

# What a worker has imported once it has made its clients; all of it is the emulator's, or Python's own.
_PRELOADED: Final = (
    "botocore.client",
    "botocore.config",
    "botocore.handlers",
    "botocore.httpchecksum",
    "botocore.loaders",
    "botocore.retries.adaptive",
    "botocore.retries.standard",
    "botocore.session",
    "botocore.signers",
    "concurrent.futures.thread",
    "dataclasses",
    "decimal",
    "email.message",
    "http.client",
    "importlib",
    "traceback",
    "uuid",
    "zoneinfo",
)
# Packages that botocore and urllib3 use where a function brings them, by what they are imported as.
_WOULD_BE_USED: Final = frozenset({"awscrt", "backports", "brotli", "brotlicffi", "compression"})
# Variables that an interpreter, its C library or OpenSSL reads as it starts.
_READ_AT_START: Final = ("GLIBC_", "LANG", "LC_", "LD_", "MALLOC_", "OPENSSL_", "PYTHON", "TZ")
_LARGEST: Final = 1 << 17
"""Bytes of a request; a function's variables are 4 kB at most (Lambda quotas, read 2026-11-30)."""


class CommandLine:
    """The memory in which this process's command line is: what `ps` shows of it."""

    def __init__(self) -> None:
        # After the last bracket, since the program's name may hold one: fields 48 and 49 of proc(5), from the third on.
        fields = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        self._start: Final = int(fields[45])
        self._size: Final = int(fields[46]) - self._start

    def set(self, *arguments: str) -> None:
        """Shows other arguments, as far as there is room."""
        content = b"\0".join(os.fsencode(each) for each in arguments)[: self._size - 1]
        ctypes.memmove(self._start, content.ljust(self._size, b"\0"), self._size)


def preload() -> frozenset[str]:
    """Imports what workers use; the names that a function's code must not have for its own."""
    for name in _PRELOADED:
        importlib.import_module(name)
    return frozenset(name.partition(".")[0] for name in sys.modules) | _WOULD_BE_USED


def can_fork(environment: dict[str, str], code: str, taken: frozenset[str]) -> bool:
    """Whether a forked worker would come to the same as a fresh interpreter.

    It would not where the function brings a module of which this process has another one, or has variables that only
    a process that starts reads.
    """
    ours = {name: value for name, value in os.environ.items() if name.startswith(_READ_AT_START)}
    theirs = {name: value for name, value in environment.items() if name.startswith(_READ_AT_START)}
    # Where PYTHONPATH leads, a `sitecustomize` may look at the variables of the function.
    if ours != theirs or "PYTHONPATH" in theirs or "_LAMBDA_LAYERS_DIRS" in environment:
        return False
    return taken.isdisjoint(name.partition(".")[0] for name in os.listdir(code))  # noqa: PTH208 -- names alone


def serve(control: socket.socket, taken: frozenset[str]) -> dict[str, Any] | None:
    """Answers requests; returns in each worker, with what it is to run, and in the server at its end, with None."""
    while True:
        content, descriptors, _, _ = socket.recv_fds(control, _LARGEST, 3)
        if not content:
            return None
        request: dict[str, Any] = json.loads(content)
        if not can_fork(request["environment"], request["cwd"], taken):
            control.send(b"no")
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        # Until there is a descriptor of it, its end is not looked at: its id might be another's by then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            control.close()
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
                os.close(descriptor)
            return request
        handle = os.pidfd_open(pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for descriptor in descriptors:
            os.close(descriptor)
        socket.send_fds(control, [str(pid).encode()], [handle])
        os.close(handle)


def reap(*_: object) -> None:
    """Takes note of workers that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def become(request: dict[str, Any], command_line: CommandLine) -> None:
    """Runs a worker's script in this process, as if it had been started with it."""
    script = request["script"]
    command_line.set(sys.executable, script)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv[:] = [script]
    sys.path.insert(0, str(Path(script).parent))
    _use_certificates_of(request["cwd"])
    main = ModuleType("__main__")
    main.__dict__.update(__file__=script, __cached__=None, __builtins__=__builtins__)
    sys.modules["__main__"] = main
    exec(compile(Path(script).read_bytes(), script, "exec"), main.__dict__)  # noqa: S102 -- the emulator's own script


def _use_certificates_of(code: str) -> None:
    """Has botocore trust what the function's certifi trusts, as it does where it finds one when it is imported."""
    if not Path(code, "certifi").is_dir():
        return
    sys.path.insert(0, code)
    certifi: Any = importlib.import_module("certifi")
    sys.path.remove(code)
    session: Any = importlib.import_module("botocore.httpsession")
    session.where = certifi.where


def run() -> None:
    """Serves until the emulator ends, and becomes a worker in each fork."""
    control = socket.socket(fileno=int(sys.argv[1]))
    command_line = CommandLine()
    command_line.set(sys.executable, __file__)
    # An old system has none: better to end now than with a worker half made.
    os.close(os.pidfd_open(os.getpid()))
    taken = preload()
    # What is there now is in no worker's way: it is never looked through, and its pages stay shared.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, reap)
    request = serve(control, taken)
    if request is not None:
        become(request, command_line)


if __name__ == "__main__":
    run()
