"""One embedded AWS: found again, on another port if need be, stopped with nothing left, and closed to the network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from offload.cli.deployment.failure import Failure
from offload.cli.local import process
from offload.cli.local.place import STATE_VARIABLE
from offload.cli.local.process import EmbeddedAws, NotRunning, free_port
from offload.project import PROJECT
from tests.patience import PATIENCE


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[EmbeddedAws]:
    embedded = EmbeddedAws(tmp_path / "state", port=free_port())
    yield embedded
    embedded.stop()


def offload(state: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from offload.cli.main import main; main()", *arguments],
        env=os.environ | {STATE_VARIABLE: str(state)} | variables,
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_a_second_start_finds_the_running_instance(embedded: EmbeddedAws) -> None:
    first = embedded.start()
    assert EmbeddedAws(embedded.root).start() == first
    assert EmbeddedAws(embedded.root).connected() == first


def test_a_runner_of_durable_functions_whose_command_line_is_not_there_yet_is_waited_for(embedded: EmbeddedAws) -> None:
    instance = embedded.start()
    # For a moment after a program was started, the kernel gives no command line of it.
    nameless = process._Process(instance.durable_pid or 0, 0, "")
    answers = iter([True, False])
    # Undone before the stop, which looks for its processes.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process, "_processes", lambda: iter([nameless]))
        patch.setattr(process, "_is_free", lambda _port: next(answers))
        embedded.await_durable_runner(instance)


def test_a_living_process_is_found_with_its_group_and_command_and_one_that_has_ended_is_not() -> None:
    command = [sys.executable, "-c", "input()", "a mark"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as child:
        [found] = [each for each in process._processes() if each.pid == child.pid]
        assert found.group == child.pid
        assert "input() a mark" in found.command
        child.kill()
        # It has ended, and nobody has taken its exit code yet.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child.pid not in {each.pid for each in process._processes()}


def test_a_port_that_is_taken_is_left_to_its_owner_and_another_one_is_used(tmp_path: Path) -> None:
    with socket.socket() as owner:
        owner.bind(("127.0.0.1", 0))
        owner.listen()
        taken = owner.getsockname()[1]
        embedded = EmbeddedAws(tmp_path / "state", port=taken)
        try:
            instance = embedded.start()
            assert instance.port != taken
            assert embedded.running() == instance
        finally:
            embedded.stop()


def test_what_it_keeps_is_its_owner_s_alone(embedded: EmbeddedAws) -> None:
    # As a state of before was left.
    (embedded.root / "state").mkdir(parents=True, mode=0o755)
    embedded.root.chmod(0o755)
    (embedded.root / "state" / "old.json").write_text("{}")
    (embedded.root / "state" / "old.json").chmod(0o644)
    instance = embedded.start()
    session = boto3.Session("000000000000", "test", region_name="us-east-1")
    manager = session.client("secretsmanager", endpoint_url=instance.endpoint)
    manager.create_secret(Name="s", SecretString="s3cret")
    embedded.stop()
    kept = [embedded.root, *(path for path in embedded.root.rglob("*") if not path.is_symlink())]
    assert any("s3cret" in path.read_text(errors="replace") for path in kept if path.is_file())
    assert {path for path in kept if path.stat().st_mode & 0o077} == set()


def test_only_the_loopback_interface_is_listened_on(embedded: EmbeddedAws) -> None:
    instance = embedded.start()
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("no /proc/net/tcp on this system")
    listening = [line.split()[1] for line in table.read_text().splitlines()[1:] if line.split()[3] == "0A"]
    assert [address for address in listening if address.endswith(f":{instance.port:04X}")] == [
        f"0100007F:{instance.port:04X}"
    ]


def test_nothing_of_the_shell_reaches_the_emulator(embedded: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("A_SECRET_OF_MINE", "x")
    instance = embedded.start()
    environ = Path(f"/proc/{instance.pid}/environ")
    if not environ.exists():
        pytest.skip("no /proc on this system")
    assert "production" not in environ.read_text()
    assert "A_SECRET_OF_MINE" not in environ.read_text()


@pytest.mark.parametrize("written", [None, "", "-----BEGIN CERTIFICATE-----\n"])
def test_one_whose_certificate_is_not_written_yet_does_not_answer_yet(
    embedded: EmbeddedAws, tmp_path: Path, written: str | None
) -> None:
    embedded.start()
    certificate, remembered = tmp_path / "server.crt", embedded.root / "embedded.json"
    if written is not None:
        certificate.write_text(written, encoding="utf-8")
    before = remembered.read_text(encoding="utf-8")
    remembered.write_text(json.dumps(json.loads(before) | {"certificate": str(certificate)}), encoding="utf-8")
    assert embedded.running() is None
    remembered.write_text(before, encoding="utf-8")
    assert embedded.running() is not None


def test_a_stop_leaves_no_process_and_a_second_one_does_nothing(embedded: EmbeddedAws) -> None:
    instance = embedded.start()
    stopped = EmbeddedAws(embedded.root).stop()
    assert stopped is not None
    assert stopped.clean
    assert embedded.running() is None
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", instance.port), timeout=2)
    assert embedded.stop() is None


def test_a_process_that_merely_got_the_remembered_id_is_left_alone(embedded: EmbeddedAws) -> None:
    embedded.root.mkdir()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True) as other:
        (embedded.root / "embedded.json").write_text(
            f'{{"pid": {other.pid}, "port": 1, "endpoint": "http://127.0.0.1:1", "started": "", "generation": "g"}}'
        )
        assert embedded.running() is None
        assert embedded.stop() is None
        assert other.poll() is None
        other.kill()


def test_two_at_work_on_one_folder_are_refused(embedded: EmbeddedAws) -> None:
    with (
        embedded.alone(),
        pytest.raises(Failure, match="another `offload up` or `offload down` is at work"),
        EmbeddedAws(embedded.root).alone(),
    ):
        pass


def test_a_missing_toolchain_is_named_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"ministack is missing; run `make toolchain`"):
        EmbeddedAws(tmp_path / "state", project=tmp_path).start()


def test_what_is_not_running_cannot_be_connected_to(tmp_path: Path) -> None:
    with pytest.raises(NotRunning, match="start it with `make up`"):
        EmbeddedAws(tmp_path).connected()


@pytest.mark.parametrize("command", [["status"], ["status", "--json"], ["logs", "VisitLedger"]])
def test_commands_say_in_one_line_that_the_embedded_aws_is_not_running(tmp_path: Path, command: list[str]) -> None:
    said = offload(tmp_path, *command)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "offload: the embedded AWS is not running: start it with `make up`\n"


def test_down_with_nothing_running_is_no_error(tmp_path: Path) -> None:
    said = offload(tmp_path / "never", "down")
    assert (said.returncode, said.stdout) == (0, "the embedded AWS was not running\n")
    assert not (tmp_path / "never").exists()


def test_an_environment_without_a_file_is_one_line_with_those_there_are(tmp_path: Path) -> None:
    said = offload(tmp_path, "status", "-e", "prdo")
    assert said.returncode == 1
    assert said.stderr == "offload: no environment 'prdo' (known: dev, local, prod, staging)\n"


def test_an_environment_on_aws_without_credentials_is_one_line(tmp_path: Path) -> None:
    nothing = {"AWS_REGION": "eu-west-1", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
               "AWS_EC2_METADATA_DISABLED": "true", "AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}  # fmt: skip
    said = offload(tmp_path, "status", "-e", "dev", **nothing)
    assert said.returncode == 1
    assert said.stderr.startswith("offload: no AWS credentials: ")
    assert len(said.stderr.splitlines()) == 1


def test_wrong_usage_ends_with_two(tmp_path: Path) -> None:
    assert offload(tmp_path, "logs").returncode == 2
    assert offload(tmp_path, "nonsense").returncode == 2
