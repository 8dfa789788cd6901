"""The emulator of the embedded AWS with quick cold starts: `python emulator.py` in place of `ministack`.

Runs in the emulator's own environment (requirements/embedded.in) and imports nothing of this project. What is changed
of MiniStack 1.5.33 (read and tried 2026-11-30), for workers of functions in Python:

- A function's code is unpacked once. The emulator unpacks it at each cold start.
- A worker is forked from a process that has imported botocore (fork_server.py). The emulator starts an interpreter,
  which imports it. Where that would not come to the same, or there is no such process, it still does.
- What DynamoDB's part finds out of a number or a condition, it remembers: a quarter of its time went into that.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Final

FORK_SERVER: Final = Path(__file__).with_name("fork_server.py")
_ROOM: Final = 2048
"""Bytes for a worker's command line."""
_SAME_FOR_THE_SAME: Final = (
    "_condition_syntax_error",
    "_ddb_canonicalize_number",
    "_number_error",
    "_number_size_bytes",
)
_REMEMBERED: Final = 1 << 16


class Forked:
    """A worker that fork_server.py has forked: what the emulator uses of `subprocess.Popen`.

    How it ended is its parent's to know, which is not this process: `returncode` is then -1.
    """

    def __init__(self, pid: int, handle: int, stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> None:
        self.pid: Final = pid
        self.stdin: Final = stdin
        self.stdout: Final = stdout
        self.stderr: Final = stderr
        self.returncode: int | None = None
        self._handle: Final = handle
        self._ended: Final = select.poll()
        self._ended.register(handle, select.POLLIN)

    def __del__(self) -> None:
        os.close(self._handle)

    def poll(self) -> int | None:
        """None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; raises subprocess.TimeoutExpired."""
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return code

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self._send(signal.SIGKILL)

    def _look(self, timeout: float | None) -> int | None:
        if self.returncode is None and self._ended.poll(None if timeout is None else timeout * 1000):
            self.returncode = -1
        return self.returncode

    def _send(self, number: signal.Signals) -> None:
        try:
            signal.pidfd_send_signal(self._handle, number)
        except ProcessLookupError:
            self.returncode = -1


class ForkServer:
    """The process that workers are forked from, started with the first of them.

    One that ends before it has answered is followed by no other: the system lacks something that it takes.
    """

    def __init__(self, script: Path = FORK_SERVER) -> None:
        self._script = script
        self._lock = threading.Lock()
        self._has_answered = False
        self._is_given_up = False
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def worker(self, script: str, code: str, environment: dict[str, str]) -> Forked | None:
        """A worker that runs a script in a folder, or None where it takes a fresh interpreter."""
        request = {"script": script, "cwd": code, "environment": environment}
        theirs: list[int] = []
        ours: list[int] = []
        try:
            for end in (0, 1, 1):
                pipe = os.pipe()
                theirs.append(pipe[end])
                ours.append(pipe[1 - end])
            answer = self._asked(json.dumps(request).encode(), theirs)
        except OSError:
            answer = None
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        if answer is None:
            for descriptor in ours:
                os.close(descriptor)
            return None
        stdin = os.fdopen(ours[0], "w", encoding="utf-8", buffering=1)
        stdout, stderr = (os.fdopen(each, encoding="utf-8") for each in ours[1:])
        return Forked(*answer, stdin, stdout, stderr)

    def _asked(self, request: bytes, descriptors: list[int]) -> tuple[int, int] | None:
        """The id of a forked process and a descriptor of it; None when it was refused. Raises OSError."""
        with self._lock:
            if self._is_given_up:
                return None
            control = self._control or self._start()
            try:
                socket.send_fds(control, [request], descriptors)
                answer, handles, _, _ = socket.recv_fds(control, 64, 1)
            except OSError:
                self._end()
                raise
            if not answer:
                self._end()
                return None
            self._has_answered = True
        return (int(answer), handles[0]) if handles else None

    def _start(self) -> socket.socket:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            number = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-P", self._script, str(number), "x" * _ROOM],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[number],
            )
        return self._control

    def _end(self) -> None:
        """Ends a server that is of no use any more; the next worker starts another, if this one was of any."""
        self._is_given_up = not self._has_answered
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class _Subprocess:
    """`subprocess`, as the emulator's module of workers sees it."""

    def __init__(self, server: ForkServer) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: list[str], **options: Any) -> Any:  # noqa: N802 -- subprocess's name
        """A forked worker of a function in Python, or what subprocess starts."""
        if command[0] == sys.executable and command[1:] == [str(Path(options["cwd"]).with_name("_worker.py"))]:
            worker = self._server.worker(command[1], options["cwd"], options["env"])
            if worker is not None:
                return worker
        return subprocess.Popen(command, **options)


class _UnpackedOnce(zipfile.ZipFile):
    """A function's code, unpacked by the first worker: the others have a link to what that has unpacked."""

    _unpacking = threading.Lock()

    def extractall(self, path: Any = None, members: Any = None, pwd: Any = None) -> None:
        into = Path(path)
        if into.name != "code" or self.filename is None or any(into.iterdir()):
            super().extractall(path, members, pwd)
            return
        digest = hashlib.sha256(Path(self.filename).read_bytes()).hexdigest()
        # Beside the workers' own folders, and gone with them.
        unpacked = Path(tempfile.gettempdir()) / "code" / digest
        with self._unpacking:
            if not unpacked.exists():
                draft = unpacked.with_suffix(".draft")
                shutil.rmtree(draft, ignore_errors=True)
                super().extractall(draft)
                draft.rename(unpacked)
        into.rmdir()
        into.symlink_to(unpacked)


class _Zipfile:
    """`zipfile`, as the emulator's module of workers sees it."""

    ZipFile = _UnpackedOnce

    def __getattr__(self, name: str) -> Any:
        return getattr(zipfile, name)


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which gives the same for the same text, with its last results at hand."""
    at_hand = functools.lru_cache(maxsize=_REMEMBERED)(function)

    @functools.wraps(function)
    def found(text: Any, *names: str) -> Any:
        # What else comes is an error, and may be what cannot be looked up.
        return at_hand(text, *names) if type(text) is str else function(text, *names)

    return found


def install() -> None:
    """Changes how the emulator of this process starts workers, and what it finds out again and again."""
    dynamodb: Any = importlib.import_module("ministack.services.dynamodb")
    for name in _SAME_FOR_THE_SAME:
        setattr(dynamodb, name, remembered(getattr(dynamodb, name)))
    workers: Any = importlib.import_module("ministack.core.lambda_runtime")
    workers.zipfile = _Zipfile()
    # Only Linux has descriptors of processes, and forks safely whatever the system's libraries do.
    if sys.platform == "linux":
        workers.subprocess = _Subprocess(ForkServer())


def main() -> None:
    """Runs the emulator until it is stopped."""
    install()
    importlib.import_module("ministack.app").main()


if __name__ == "__main__":
    main()
