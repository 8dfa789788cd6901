"""The life of one embedded AWS: start, find, stop.

The emulator is MiniStack in a virtual environment of its own. It runs in a process group of its own, so that its
function workers can be found and ended with it, and in an environment of its own, so that nothing of the shell
reaches the handlers. AWS's runner of durable functions runs beside it (durable_runner.py): started last, ended first,
since an execution counts the calls that fail.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from offload.cli.deployment.failure import Failure
from offload.project import PROJECT

EMULATOR = Path(__file__).with_name("emulator.py")
FORK_SERVER = Path(__file__).with_name("fork_server.py")
HOST = "127.0.0.1"
USUAL_PORT = 4566
REGION = "us-east-1"
ACCOUNT = "000000000000"

START_WITHIN = 120.0
"""Seconds; seen 0.4 to 0.6 on two idle cores. This and the others are for machines that are many times as slow."""
STOP_WITHIN = 60.0
"""Seconds from SIGTERM to SIGKILL; seen 0.9 with state to write."""
STOP_WITHOUT_STATE_WITHIN = 1.0
"""The same, in seconds, where no state is lost; over TLS it waits for its clients' idle connections."""
KILLED_WITHIN = 30.0
"""Seconds that the system has to end what got SIGKILL."""

# What the emulator keeps holds secrets: other people of the machine read none of it.
_FOLDER, _FILE = 0o700, 0o600
_UMASK = 0o077
_POLL = 0.02
_STATE = ("state", "s3", "durable")
_ATTEMPTS = 3  # a free port can be taken by another between the look and the start
_LOG_LINES_SHOWN = 8


class NotRunning(Failure):
    """The embedded AWS is not running."""

    def __init__(self) -> None:
        super().__init__("the embedded AWS is not running: start it with `make up`")


@dataclass(frozen=True)
class Instance:
    """One running embedded AWS.

    `generation` names its data: it stays the same as long as state survives (a clean stop and a start), and is
    another one when the emulator began empty. `certificate` is the PEM file that clients trust when it speaks TLS.
    `durable_port` is that of the runner of durable functions, on HTTP, and `durable_pid` its process.
    """

    pid: int
    port: int
    endpoint: str
    started: str
    generation: str
    certificate: str | None = None
    durable_port: int | None = None
    durable_pid: int | None = None

    @property
    def durable_endpoint(self) -> str | None:
        """Where durable executions are started, looked at and answered."""
        return f"http://{HOST}:{self.durable_port}" if self.durable_port else None


@dataclass(frozen=True)
class Stopped:
    """How an instance ended: by itself (`clean`, its state is written), or killed; and after how many seconds."""

    clean: bool
    seconds: float


@dataclass(frozen=True)
class _Process:
    pid: int
    group: int
    command: str


class EmbeddedAws:
    """The embedded AWS whose state is in the folder `root`; there is at most one running a folder.

    `port` is the port wished for (default: the last one, else 4566; a free one when that is taken). `auth` enforces
    IAM, and then speaks TLS, since the policies of the CDK's bucket refuse anything else. With `persist` a clean
    stop keeps the state for the next start. `project` holds the toolchain, in `.offload/embedded`. `variables` are
    added to the environment of the emulator and of every function: for tests that watch them.
    """

    def __init__(
        self,
        root: Path,
        *,
        port: int | None = None,
        auth: bool = False,
        persist: bool = True,
        project: Path = PROJECT,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.project = project
        self.auth = auth
        self._port = port
        self._persist = persist
        self._variables = dict(variables or {})
        self._child: subprocess.Popen[bytes] | None = None
        self._durable_child: subprocess.Popen[bytes] | None = None

    @property
    def durable_log(self) -> Path:
        """The log of the runner of durable functions."""
        return self.root / "durable.log"

    @property
    def log(self) -> Path:
        """The emulator's own log."""
        return self.root / "embedded.log"

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Holds this folder against every other process that starts, deploys or stops; raises Failure at once."""
        _make_private(self.root)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Failure("another `offload up` or `offload down` is at work here: wait for its end") from None
            yield

    def running(self) -> Instance | None:
        """The instance that runs on this folder, or None; one that does not answer counts as not running."""
        instance = self._remembered()
        if instance is None or not self._is_ours(instance.pid) or not _answers(instance, timeout=START_WITHIN):
            return None
        return instance

    def connected(self) -> Instance:
        """The running instance; raises NotRunning."""
        instance = self.running()
        if instance is None:
            raise NotRunning
        return instance

    def start(self) -> Instance:
        """Finds the running instance, or starts one and waits until it answers.

        What an unclean end left (processes, half a state) is cleared away first: the emulator writes its state only
        at a clean stop, so after anything else it starts empty. Raises Failure when it does not come up.
        """
        found = self.running()
        if found is not None:
            return self._with_durable_runner(found)
        self._clear_remains()
        generation = self._generation_on_disk()
        if generation is None:
            for folder in _STATE:
                shutil.rmtree(self.root / folder, ignore_errors=True)
            generation = uuid.uuid4().hex
        shutil.rmtree(self.root / "tmp", ignore_errors=True)  # the code of workers that were killed
        for kept in (self.root, *(self.root / each for each in (*_STATE, "tmp", "home"))):
            _make_private(kept)
        # Of a time when they were open to everybody on the machine.
        for file in (*self.root.glob("*"), *(self.root / "state").rglob("*")):
            if file.is_file() and not file.is_symlink():
                file.chmod(_FILE)
        last = self._last_port()
        wished = self._port or (last if self._has_state() else None) or USUAL_PORT
        for attempt in range(_ATTEMPTS):
            port = wished if attempt == 0 and _is_free(wished) else free_port()
            if last not in {port, None}:
                self._move_state(str(last), str(port))
                last = port
            instance = self._started_on(port, generation)
            if instance is not None:
                return self._with_durable_runner(instance)
        raise Failure(f"the embedded AWS did not start: {self._log_tail()}\n  its log: {self.log}")

    def stop(self) -> Stopped | None:
        """Ends the instance and every worker of it; None when nothing ran.

        SIGTERM first, so that it writes its state; SIGKILL for whatever is left after the deadline.
        Raises Failure when something survives that.
        """
        instance = self._remembered()
        if instance is None:
            return None
        began, wall = time.monotonic(), time.time()
        self._stop_durable_runner(instance)
        if not self._is_ours(instance.pid):
            self._clear_remains()
            return None
        os.kill(instance.pid, signal.SIGTERM)
        patience = STOP_WITHIN if self._persist else STOP_WITHOUT_STATE_WITHIN
        by_itself = self._ended(instance.pid, patience / 2)
        if not by_itself:
            # It waits for its functions; one whose runner of durable executions is gone tries to reach it for long.
            for worker in self.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(worker, signal.SIGKILL)
            by_itself = self._ended(instance.pid, patience / 2)
        self._kill_group(instance.pid)
        clean = by_itself and self._persist and self._wrote_state_since(wall)
        self._remember({"port": instance.port, "generation": instance.generation if clean else None})
        return Stopped(clean, time.monotonic() - began)

    def workers(self) -> list[int]:
        """Process ids of the function workers that run now."""
        instance = self._remembered()
        if instance is None:
            return []
        return [
            process.pid
            for process in self._group(instance.pid)
            if process.pid != instance.pid and str(FORK_SERVER) not in process.command
        ]

    def clear(self) -> None:
        """Forgets the state on disk; the instance must have been stopped."""
        for folder in (*_STATE, "tmp", "home"):
            shutil.rmtree(self.root / folder, ignore_errors=True)
        self._file.unlink(missing_ok=True)

    # -- starting

    def _started_on(self, port: int, generation: str) -> Instance | None:
        """The instance once it answers; None when its process ended first."""
        durable_port = free_port()
        command = self.project / ".offload" / "embedded" / "bin" / "ministack"
        if not command.exists():
            raise Failure(f"the embedded AWS is not installed: {command} is missing; run `make toolchain`")
        with open(self.log, "wb", opener=_private) as log:
            self._child = subprocess.Popen(
                [command.with_name("python"), "-P", EMULATOR],
                env=self._environment(port, durable_port),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=_UMASK,
            )
        scheme, certificate = ("http", None)
        if self.auth:
            scheme, certificate = ("https", str(self.root / "tmp" / "ministack-tls" / "server.crt"))
        instance = Instance(
            pid=self._child.pid,
            port=port,
            endpoint=f"{scheme}://{HOST}:{port}",
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            generation=generation,
            certificate=certificate,
            durable_port=durable_port,
        )
        # Remembered before it answers: whoever kills us now can still be followed by `offload down`.
        self._remember(asdict(instance))
        deadline = time.monotonic() + START_WITHIN
        try:
            while time.monotonic() < deadline:
                if self._child.poll() is not None:
                    return None
                if _answers(instance, timeout=2):
                    return instance
                time.sleep(_POLL)
        except BaseException:
            self._kill_group(instance.pid)
            raise
        self._kill_group(instance.pid)
        raise Failure(
            f"the embedded AWS did not answer within {START_WITHIN:.0f} s: {self._log_tail()}\n  its log: {self.log}"
        )

    def _with_durable_runner(self, instance: Instance) -> Instance:
        """The instance with the runner of durable functions beside it; what ran when the last one ended goes on.

        It listens about a second later: `await_durable_runner` waits for it.
        """
        port = instance.durable_port
        if port is None or (instance.durable_pid and self._is_durable_runner(instance.durable_pid)):
            return instance
        python = self.project / ".offload" / "durable" / "bin" / "python"
        if not python.exists():
            raise Failure(f"the durable functions' runner is not installed: {python} is missing; run `make toolchain`")
        arguments = ["--port", str(port), "--store", str(self.root / "durable" / "executions.db")]
        arguments += ["--lambda", instance.endpoint, "--region", REGION]
        environment = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": ACCOUNT,
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        if instance.certificate:
            arguments += ["--certificate", instance.certificate]
            environment["AWS_CA_BUNDLE"] = instance.certificate
        with open(self.durable_log, "ab", opener=_private) as log:
            self._durable_child = subprocess.Popen(
                [python, Path(__file__).with_name("durable_runner.py"), *arguments],
                env=environment,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=_UMASK,
            )
        instance = replace(instance, durable_pid=self._durable_child.pid)
        self._remember(asdict(instance))
        return instance

    def await_durable_runner(self, instance: Instance) -> None:
        """Waits until durable executions can be started; raises Failure."""
        if instance.durable_port is None:
            return
        deadline = time.monotonic() + START_WITHIN
        while _is_free(instance.durable_port):
            # Not by its command line, which the kernel has only a moment after the program was started.
            if instance.durable_pid is None or not _alive(instance.durable_pid, self._durable_child):
                raise Failure(f"the runner of durable functions did not start; its log: {self.durable_log}")
            if time.monotonic() > deadline:
                raise Failure(f"the runner of durable functions does not answer; its log: {self.durable_log}")
            time.sleep(_POLL)

    def _stop_durable_runner(self, instance: Instance) -> None:
        """Kills it: its state is in its store at each moment, and it does not wait for its calls either way."""
        pid = instance.durable_pid
        if pid is None or not self._is_durable_runner(pid):
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + KILLED_WITHIN
        while _alive(pid, self._durable_child):
            if time.monotonic() > deadline:
                raise Failure(f"the runner of durable functions survives SIGKILL: {pid}; end it by hand")
            time.sleep(_POLL)

    def _is_durable_runner(self, pid: int) -> bool:
        store = str(self.root / "durable")
        return any(process.pid == pid and store in process.command for process in _processes())

    def _environment(self, port: int, durable_port: int) -> dict[str, str]:
        """Everything the emulator sees, and so everything that a handler could see of this machine."""
        environment = {
            "PATH": f"{self.project / '.offload' / 'embedded' / 'bin'}:/usr/bin:/bin",
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "LANG": "C.UTF-8",
            "GATEWAY_PORT": str(port),
            "BIND_HOST": HOST,
            "MINISTACK_REGION": REGION,
            "IOT_MTLS_ENABLED": "0",  # it would listen on every address
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",  # never touch the containers of the person who runs us
            "STATE_DIR": str(self.root / "state"),
            "S3_DATA_DIR": str(self.root / "s3"),
            "PYTHONDONTWRITEBYTECODE": "1",
            # To functions, Lambda is the runner of durable functions; it passes on what is not for it.
            "AWS_ENDPOINT_URL_LAMBDA": f"http://{HOST}:{durable_port}",
        }
        if self._persist:
            environment |= {"PERSIST_STATE": "1", "S3_PERSIST": "1"}
        if self.auth:
            environment |= {"AUTH": "true", "USE_SSL": "1"}
        return environment | self._variables

    # -- ending

    def _ended(self, pid: int, within: float) -> bool:
        deadline = time.monotonic() + within
        while _alive(pid, self._child):
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)
        return True

    def _kill_group(self, leader: int) -> None:
        """Ends everything of the leader's process group; workers that end by themselves get a moment for it."""
        patience = time.monotonic() + 0.5
        while any(process.pid != leader for process in self._group(leader)) and time.monotonic() < patience:
            time.sleep(_POLL)
        deadline = time.monotonic() + KILLED_WITHIN
        while left := self._group(leader):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                pids = ", ".join(str(process.pid) for process in left)
                raise Failure(f"processes of the embedded AWS survive SIGKILL: {pids}; end them by hand")
            _alive(leader, self._child)  # reaps the leader when it is our own child
            time.sleep(_POLL)

    def _clear_remains(self) -> None:
        """Ends what a killed instance left behind; the command says whose they are, should the id be reused."""
        instance = self._remembered()
        if instance is not None:
            self._stop_durable_runner(instance)
            self._kill_group(instance.pid)
            self._remember({"port": instance.port, "generation": None})

    def _group(self, leader: int) -> list[_Process]:
        """The living processes of the leader's group that the toolchain of this project started."""
        ours = str(self.project / ".offload" / "embedded")
        return [
            process
            for process in _processes()
            if process.group == leader and (ours in process.command or str(self.root) in process.command)
        ]

    def _is_ours(self, pid: int) -> bool:
        return any(process.pid == pid for process in self._group(pid))

    # -- remembering

    @property
    def _file(self) -> Path:
        return self.root / "embedded.json"

    def _remember(self, content: dict[str, object]) -> None:
        draft = self._file.with_suffix(".draft")
        draft.touch(mode=_FILE)
        draft.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        draft.replace(self._file)

    def _content(self) -> dict[str, object]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return content if isinstance(content, dict) else {}

    def _remembered(self) -> Instance | None:
        try:
            return Instance(**self._content())  # type: ignore[arg-type]
        except TypeError:  # that of a stopped one has no process
            return None

    def _last_port(self) -> int | None:
        port = self._content().get("port")
        return port if isinstance(port, int) else None

    def _generation_on_disk(self) -> str | None:
        """The generation whose state a clean stop has written, or None."""
        content = self._content()
        generation = content.get("generation")
        return generation if self._persist and isinstance(generation, str) and "pid" not in content else None

    def _has_state(self) -> bool:
        return any((self.root / "state").glob("*.json"))

    def _move_state(self, before: str, after: str) -> None:
        """Queues are kept under their URLs, which hold the port; under another port no consumer would find its own."""
        for path in (self.root / "state").glob("*.json"):
            text = path.read_text(encoding="utf-8")
            path.write_text(text.replace(f"//localhost:{before}/", f"//localhost:{after}/"), encoding="utf-8")

    def _wrote_state_since(self, moment: float) -> bool:
        # Two seconds: file systems round times.
        return any(path.stat().st_mtime >= moment - 2 for path in (self.root / "state").glob("*.json"))

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return "it wrote no log"
        return "\n  ".join(lines[-_LOG_LINES_SHOWN:]) or "it wrote no log"


def _make_private(folder: Path) -> None:
    """Makes the folder where it is not there; it is its owner's alone, also one that was not until now."""
    folder.mkdir(mode=_FOLDER, parents=True, exist_ok=True)
    folder.chmod(_FOLDER)


def _private(path: str, flags: int) -> int:
    """Opens a file, and makes it its owner's alone."""
    return os.open(path, flags, _FILE)


def _answers(instance: Instance, timeout: float) -> bool:
    try:
        # While it starts, its certificate is not there yet, or there by half.
        context = ssl.create_default_context(cafile=instance.certificate) if instance.certificate else None
        https = urllib.request.HTTPSHandler(context=context)
        # Loopback is never reached through a proxy.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), https)
        with opener.open(f"{instance.endpoint}/_ministack/ready", timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) != 0


def free_port() -> int:
    """A port on the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _alive(pid: int, child: subprocess.Popen[bytes] | None) -> bool:
    if child is not None and child.pid == pid:
        return child.poll() is None
    return any(process.pid == pid for process in _processes())


def _processes() -> Iterator[_Process]:
    """Every living process that may be looked at; zombies do not count."""
    for process in psutil.process_iter():
        # It has just ended, or is another user's.
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield _Process(process.pid, os.getpgid(process.pid), " ".join(process.cmdline()))
