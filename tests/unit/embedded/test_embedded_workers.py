"""Workers of the embedded AWS: forked, or started as an interpreter of their own, a function cannot tell which."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.local.emulator import ForkServer, remembered
from offload.cli.local.process import EmbeddedAws, free_port
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no worker is forked")

# An interpreter of its own has it: the variable is read by a process that starts.
FRESH = {"LC_NOTE": "read at the start"}
CODE = """
import asyncio, gc, locale, os, pathlib, resource, signal, socket, sys, threading, time, warnings
import botocore.httpsession
import beside

print("imported")


def handler(event, context):
    print("called")
    main = sys.modules["__main__"]
    folder = os.path.dirname(main.__file__)
    short = lambda text: text.replace(folder, "WORKER")
    pathlib.Path("/tmp", event["wanted"]).exists()
    return {
        "pid": os.getpid(),
        "forked": "ctypes" in sys.modules,
        "random": __import__("random").random(),
        "same": {
            "argv": [short(each) for each in sys.argv],
            "path": [short(each) for each in sys.path],
            "main": [main.__name__, short(main.__file__), main.__spec__ is None, short(sys.modules["beside"].__file__)],
            "command line": short(pathlib.Path("/proc/self/cmdline").read_text().rstrip(chr(0))).split(chr(0)),
            "folder": os.path.realpath(os.getcwd()) == os.path.realpath(folder + "/code"),
            "code": sorted(os.listdir()),
            "environment": {
                name: short(value) for name, value in sorted(os.environ.items())
                if name not in {"LC_NOTE", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_LAMBDA_FUNCTION_NAME",
                                "_LAMBDA_FUNCTION_ARN", "LC_CTYPE"}
            },
            "signals": [str(signal.getsignal(each)) for each in sorted(signal.valid_signals())],
            "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
            "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
            "descriptors": sorted(
                number for number in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{number}")
            ),
            "pipes": [os.readlink(f"/proc/self/fd/{number}").partition(":")[0] for number in range(3)],
            "streams": [
                [each.encoding, each.errors, each.line_buffering] for each in (sys.stdin, sys.__stdout__, sys.stderr)
            ],
            "threads": [each.name for each in threading.enumerate()],
            "encodings": [locale.getpreferredencoding(), sys.getfilesystemencoding()],
            "collector": [gc.isenabled(), gc.get_threshold()],
            "filters": len(warnings.filters),
            "time zone": time.tzname,
            "certificates": short(botocore.httpsession.where()),
            "group": os.getpgid(0) == os.getpgid(os.getppid()),
        },
    }
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAws]:
    running = EmbeddedAws(tmp_path_factory.mktemp("embedded"), port=free_port(), persist=False)
    running.start()
    try:
        yield running
    finally:
        running.stop()


class Functions:
    """Functions on an embedded AWS, of this code and the modules that it brings."""

    def __init__(self, embedded: EmbeddedAws) -> None:
        self._lambda = Aws(LOCAL, embedded.connected()).lambda_

    def make(
        self, name: str, *, code: str = CODE, variables: Mapping[str, str] = {}, brings: Mapping[str, str] = {}
    ) -> None:
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for module, content in {"worker": code, "beside": "", **brings}.items():
                # Of one time, so that equal code is equal to the byte.
                archive.writestr(zipfile.ZipInfo(f"{module.replace('.', '/')}.py"), content)
        self._lambda.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role="arn:aws:iam::000000000000:role/worker",
            Handler="worker.handler",
            Code={"ZipFile": packed.getvalue()},
            Environment={"Variables": dict(variables)},
        )

    def call(self, name: str) -> Any:
        answer = self._lambda.invoke(FunctionName=name, Payload=json.dumps({"wanted": "x"}))
        said = json.loads(answer["Payload"].read())
        assert "FunctionError" not in answer, said
        return said


@pytest.fixture(scope="module")
def functions(embedded: EmbeddedAws) -> Functions:
    return Functions(embedded)


def killed(pid: int) -> None:
    """Kills a process, and waits until it has ended."""
    handle = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        assert select.select([handle], [], [], PATIENCE)[0], "a process survives SIGKILL"
    finally:
        os.close(handle)


@pytest.mark.parametrize("brought", [{}, {"certifi.__init__": "def where():\n    return __file__ + '/theirs'"}])
def test_a_forked_worker_finds_all_that_a_fresh_interpreter_finds(
    functions: Functions, brought: dict[str, str]
) -> None:
    names = [f"{kind}-{len(brought)}" for kind in ("forked", "fresh")]
    functions.make(names[0], brings=brought)
    functions.make(names[1], variables=FRESH, brings=brought)
    forked, fresh = (functions.call(name) for name in names)
    assert (forked["forked"], fresh["forked"]) == (True, False)
    assert forked["same"] == fresh["same"]
    assert forked["random"] != fresh["random"]


@pytest.mark.parametrize("module", ["jmespath", "brotli", "decimal"])
def test_a_function_that_brings_a_module_that_the_emulator_has_or_would_use_is_not_forked(
    functions: Functions, module: str
) -> None:
    functions.make(
        f"with-{module}", brings={module: "decompress = None\nerror = Decompressor = OSError\nDecimal = float"}
    )
    assert functions.call(f"with-{module}")["forked"] is False


def test_workers_are_those_of_functions_and_one_that_is_killed_is_followed_by_another(
    embedded: EmbeddedAws, functions: Functions
) -> None:
    functions.make("killed")
    before = functions.call("killed")["pid"]
    assert functions.call("killed")["pid"] == before
    assert before in embedded.workers()
    killed(before)
    assert before not in embedded.workers()
    assert functions.call("killed")["pid"] != before


def test_workers_come_from_another_process_when_the_one_that_forks_them_was_killed(
    embedded: EmbeddedAws, functions: Functions
) -> None:
    code = "import os\n\n\ndef handler(event, context):\n    print()\n    return os.getppid()\n"
    functions.make("parent", code=code)
    parent = functions.call("parent")
    assert parent not in embedded.workers()
    killed(parent)
    functions.make("again", code=code)
    functions.call("again")  # by a fresh interpreter, or a fork of the next
    functions.make("next", code=code)
    assert functions.call("next") not in {parent, embedded.connected().pid}


def test_a_server_that_cannot_run_here_is_started_once(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text("open('started', 'a').write('x'); raise OSError('no such system call')")
    server = ForkServer(script)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for _ in range(3):
            assert server.worker("worker.py", str(tmp_path), {}) is None
    assert (tmp_path / "started").read_text() == "x"


def test_a_function_s_code_is_unpacked_once_for_all_of_its_workers(embedded: EmbeddedAws, functions: Functions) -> None:
    code = "import os\n\n\ndef handler(event, context):\n    print()\n    return os.stat(__file__).st_ino\n"
    functions.make("one", code=code)
    functions.make("two", code=code)
    functions.make("other", code=code + "\n")
    assert functions.call("one") == functions.call("two") != functions.call("other")


def test_what_the_emulator_remembers_is_what_it_would_find_again() -> None:
    asked: list[Any] = []

    def length(text: Any) -> int:
        asked.append(text)
        return len(text)

    found = remembered(length)
    assert [found("abc"), found("abc"), found("ab")] == [3, 3, 2]
    assert asked == ["abc", "ab"]
    # Anything but text goes to the function itself, which says what is wrong with it.
    assert (found(["a"]), found(["a"])) == (1, 1)
    with pytest.raises(TypeError):
        found(None)
    assert asked[2:] == [["a"], ["a"], None]
