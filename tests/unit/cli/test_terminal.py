"""What the command line prints of texts that strangers wrote: none of them steers the terminal, or forges a line."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import typing
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from clinic.catalogue import CATALOGUE
from offload.cli import main as command_line
from offload.cli import terminal
from offload.cli.audit import events as audit
from offload.cli.deployment import logs, status
from offload.cli.deployment.failure import Failure
from offload.cli.events import dead_letter_commands, outbox_commands
from offload.cli.events.dead_letters import DeadLetters
from offload.cli.integrations import integrations
from offload.cli.jobs import commands as jobs_commands
from offload.cli.main import app
from offload.cli.preflight import report
from offload.cli.preflight.item import Item
from offload.cli.terminal.screen import Screen
from offload.cli.webhooks_in import received as webhooks
from offload.cli.webhooks_in import try_endpoint as webhook_sending
from offload.cli.webhooks_out import delivery_commands as deliveries_commands
from offload.cli.webhooks_out import receiver_commands
from offload.cli.webhooks_out import subscription_commands as subscriptions_commands
from offload.cli.webhooks_out.api import Senders, SubscriptionsApi
from offload.cli.webhooks_out.receiver import Delivery
from offload.client.jobs import Jobs
from offload.client.outbox import HeldEvent, Outbox, Status
from offload.contracts.jobs.job import Job, State
from offload.contracts.visible import visible, visible_block, visible_json
from tests.unit.cli.strangers import (
    HOSTILE,
    NOW,
    STEERS,
    Answering,
    around,
    assert_escapes_in_json,
    assert_shows_escapes,
    commands_with,
    deployment_of_strangers,
    entered,
    filled,
    given,
    past_the_terminal,
    ran,
    steering,
)

COMMAND_LINE = Path(terminal.__file__).parents[1]


def job(state: State = State.FAILED) -> Job:
    found: Job = msgspec.structs.replace(filled(Job), state=state)
    return found


def jobs_of(state: State) -> Answering:
    def get(name: str) -> Job:
        return job(state) if name == "job-1" else msgspec.structs.replace(job(state), children=())

    page = SimpleNamespace(jobs=[job(state)], cursor=HOSTILE)
    said = {
        "get": get,
        "page": given(page),
        "result_json": given(json.dumps({HOSTILE: HOSTILE}, ensure_ascii=False).encode()),
        "types": given(
            {
                "job_types": [
                    {
                        "name": HOSTILE, "input": {"properties": {HOSTILE: {}}}, "timeout_seconds": 1, "attempts": 1,
                        "lanes": [HOSTILE], "durable": False, "scheduled": False, "repeatable": True,
                    }
                ]
            }
        ),
        "schedules": given({"schedules": [{"type": HOSTILE, "cron": HOSTILE, "timezone": HOSTILE, "next_fires": []}]}),
        "pause": given({"type": HOSTILE}),
        "resume": given({"type": HOSTILE}),
    }  # fmt: skip
    return Answering(Jobs, **said)


LOG_LINES = [
    json.dumps({"level": "INFO", "message": HOSTILE, HOSTILE: HOSTILE, "n": 1}, ensure_ascii=False),
    json.dumps({"level": "ERROR", "message": "x", "exception": f"Traceback:\n  {HOSTILE}"}, ensure_ascii=False),
    HOSTILE,
    "Traceback (most recent call last):",
    f'  File "/var/task/a.py", line 1, in {HOSTILE}',
    f"ValueError: {HOSTILE}",
]


@pytest.fixture(params=[State.FAILED, State.WAITING, State.RUNNING, State.HELD, State.SUCCEEDED])
def state(request: pytest.FixtureRequest) -> State:
    return State(request.param)


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the commands ask answers with HOSTILE wherever it answers with text."""
    deployment_of_strangers(monkeypatch)
    monkeypatch.setattr(jobs_commands, "_LOOK_EVERY", 0.01)
    api = Answering(SubscriptionsApi)
    monkeypatch.setattr(subscriptions_commands, "_api", entered(api))
    monkeypatch.setattr(deliveries_commands, "_api", entered(api))
    # Of several stacks the commands say which.
    senders = Senders({HOSTILE: typing.cast(Any, api), "another": typing.cast(Any, api)})
    for module in (subscriptions_commands, deliveries_commands):
        monkeypatch.setattr(module, "senders_in", entered(senders))
    monkeypatch.setattr(deliveries_commands, "_recovery", given(None))
    monkeypatch.setattr(jobs_commands, "service_of", entered(jobs_of(State.FAILED)))
    monkeypatch.setattr(audit, "audit", given(filled(audit.Account)))
    monkeypatch.setattr(dead_letter_commands, "_dead_letters", given(Answering(DeadLetters)))
    monkeypatch.setattr(integrations, "third_parties", given((filled(integrations.ThirdParty),)))
    provider = SimpleNamespace(name=HOSTILE, title=HOSTILE, schemes=(SimpleNamespace(name=HOSTILE),))
    secret = SimpleNamespace(key_id=HOSTILE, since=NOW, until=NOW)
    overview = webhooks.Overview(
        stack=HOSTILE, provider=typing.cast(Any, provider), url=HOSTILE, secrets=typing.cast(Any, (secret,)),
        troubles=(HOSTILE,), last_day=filled(webhooks.Figures), owed=1,
    )  # fmt: skip
    monkeypatch.setattr(webhooks, "overviews", given((overview,)))
    monkeypatch.setattr(webhooks, "recent", given([filled(webhooks.Came)]))
    monkeypatch.setattr(
        webhooks, "find", lambda *_, **__: {"id": HOSTILE, "stack": HOSTILE, "event": {HOSTILE: HOSTILE}}
    )
    monkeypatch.setattr(webhooks, "missing", given(filled(webhooks.Comparison)))
    monkeypatch.setattr(webhooks, "read_listed", given([]))
    monkeypatch.setattr(webhooks, "provider_of", given(SimpleNamespace(sent_again=HOSTILE)))
    monkeypatch.setattr(webhook_sending, "send", given(filled(webhook_sending.Answered)))
    found = {
        "environment": HOSTILE,
        "embedded": {"endpoint": HOSTILE, "pid": 1, "started": HOSTILE, "workers": 1},
        "alarms": {"address": HOSTILE, "subscription": HOSTILE, "remedy": HOSTILE},
        "stacks": [{"name": HOSTILE, "status": HOSTILE}],
        "functions": [{"name": HOSTILE, "folder": HOSTILE, "function_name": HOSTILE}],
        "consumers": [{"name": HOSTILE, "waiting": 1, "in_flight": 1, "delayed": 1, "dead": 1, "undeliverable": 1}],
    }
    monkeypatch.setattr(status, "status", given(found))
    monkeypatch.setattr(logs, "read", given(iter([[logs.Line(NOW, HOSTILE, line) for line in LOG_LINES]])))
    monkeypatch.setattr(outbox_commands, "_engine", given(None))
    monkeypatch.setattr(Outbox, "status", given(filled(Status)))
    monkeypatch.setattr(Outbox, "held", given([filled(HeldEvent)]))
    region = SimpleNamespace(session=SimpleNamespace(region_name="eu-west-1"))
    monkeypatch.setattr(report, "run", given(([filled(Item)], region)))


SHOWN = {
    "audit": (),
    "dead-letters list": (),
    "dead-letters redrive": ("--dry-run",),
    "dead-letters show": ("1",),
    "deliveries erase": ("dlv_1",),
    "deliveries list": (),
    "deliveries resend": ("dlv_1",),
    "deliveries show": ("dlv_1",),
    "integrations list": (),
    "jobs answer": ("job-1", "yes"),
    "jobs cancel": ("job-1",),
    "jobs list": ("--limit", "1"),
    "jobs result": ("job-1",),
    "jobs schedules": (),
    "jobs show": ("job-1",),
    "jobs types": (),
    "jobs watch": ("job-1",),
    "logs": ("A",),
    "outbox status": ("--database-url", "sqlite://"),
    "preflight": ("dev",),
    "status": (),
    "subscriptions change": ("sub_1", "--description", "x"),
    "subscriptions event-types": (),
    "subscriptions list": (),
    "subscriptions pause": ("sub_1",),
    "subscriptions resume": ("sub_1",),
    "subscriptions show": ("sub_1",),
    "subscriptions test": ("sub_1",),
    "webhooks missing": ("github", "--deliveries", "-"),
    "webhooks providers": (),
    "webhooks recent": (),
    "webhooks show": ("1",),
    "webhooks test": ("github",),
}
"""The commands that show what others wrote, with the arguments that they need."""

OWN_WORDS = {
    "before-deploy", "bill", "connect", "dead-letters drop", "deliveries recover", "destroy", "down", "events publish",
    "events types", "integrations credentials", "jobs decide", "jobs pause", "jobs resume", "jobs retry", "jobs submit",
    "new app", "new consumer", "new event", "new integration", "new job", "new table", "new webhook", "remove",
    "outbox discard", "outbox relay", "outbox retry", "protect", "receiver",
    "subscriptions create", "subscriptions delete", "subscriptions rotate", "subscriptions rotate-sealing-key",
    "target", "up", "webhooks rotate",
}  # fmt: skip
"""The commands that say what they did, in words of ours, of what was typed."""


def test_every_command_is_known_to_show_what_others_wrote_or_not() -> None:
    assert commands_with(CATALOGUE) == SHOWN.keys() | OWN_WORDS


def test_the_groups_of_an_app_s_catalogue_are_commands_beside_the_framework_s(monkeypatch: pytest.MonkeyPatch) -> None:
    with_a_group = replace(CATALOGUE, commands={"visits": "offload.cli.events.commands"})
    monkeypatch.setattr("offload.cli.catalogue.catalogue", lambda: with_a_group)
    assert commands_with(with_a_group) - (SHOWN.keys() | OWN_WORDS) == {"visits publish", "visits types"}
    assert "visits types" in ran("visits types", "--help").output


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_command_shows_controls_of_strangers_as_escapes_and_in_one_line(command: str) -> None:
    assert_shows_escapes(command, *SHOWN[command])


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_command_escapes_controls_in_json_and_the_document_is_the_same(command: str) -> None:
    assert_escapes_in_json(command, *SHOWN[command])


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", ["jobs list", "jobs show", "jobs watch"])
def test_a_job_in_any_state_is_shown_without_controls(
    command: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "jobs watch" and not state.ended:
        return  # one that never ends is watched for ever
    monkeypatch.setattr(jobs_commands, "service_of", entered(jobs_of(state)))
    result = ran(command, *SHOWN[command])
    assert steering(result.output) == set()
    assert "FORGED" not in {line[:6] for line in result.output.split("\n")}


@pytest.mark.usefixtures("strangers")
def test_the_receiver_prints_each_delivery_as_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    receiver_commands._Lines().show(filled(Delivery))
    receiver_commands._print_json(filled(Delivery))
    out = capsys.readouterr().out
    assert steering(out) == set()
    assert len(out.splitlines()) == 2


@pytest.mark.usefixtures("strangers")
def test_a_question_shows_controls_as_escapes() -> None:
    result = CliRunner().invoke(app, ["subscriptions", "delete", "sub_1"], input="n\n")
    assert "\\x1b]52;c;QUJD\\x07" in result.output
    assert steering(result.output) == set()


# -- what ends the command, and what libraries print


def fails(error: Exception) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def prints() -> None:
    print(HOSTILE)
    sys.stderr.writelines([HOSTILE])
    raise Failure("x")


@pytest.mark.parametrize("command", [fails(Failure(HOSTILE)), fails(RuntimeError(HOSTILE)), prints])
def test_errors_tracebacks_and_what_libraries_print_reach_the_terminal_without_controls(
    command: Callable[[], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_line, "app", command)
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 1
    said = capsys.readouterr()
    assert steering(said.out + said.err) == set()
    assert "\\x1b]52" in said.err


def test_wrong_usage_repeats_what_was_typed_without_controls(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["offload", "jobs", f"list{HOSTILE}"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert "list" in said.err
    assert steering(said.out + said.err) == set()


def test_the_streams_are_the_process_s_own_again_afterwards() -> None:
    before = (sys.stdout, sys.stderr)
    with terminal.guarded():
        assert (sys.stdout, sys.stderr) != before
        assert not sys.stdout.isatty()
    assert (sys.stdout, sys.stderr) == before


# -- the console, on a terminal


def on_terminal(*printed: Any, **settings: Any) -> str:
    file = io.StringIO()
    screen = Screen(file=file, force_terminal=True, color_system="truecolor", width=500)
    for each in printed:
        screen.print(each, **settings)
    return file.getvalue()


def test_a_terminal_gets_styles_of_ours_and_no_other_command() -> None:
    table = Table(HOSTILE, title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE, footer=HOSTILE)
    table.add_row(HOSTILE, Text(HOSTILE, style="link http://evil"))
    shown = on_terminal(HOSTILE, Text(HOSTILE), table, style="red")
    assert "\x1b[31m" in shown
    assert steering(re.sub(r"\x1b\[[0-9;]*m", "", shown)) == set()


def test_markup_and_emoji_codes_are_text() -> None:
    assert on_terminal("[link=http://evil]a[/link] [/nope] :smile:") == "[link=http://evil]a[/link] [/nope] :smile:\n"
    assert on_terminal("[red]a[/red]", markup=True) == "[red]a[/red]\n"


def test_cells_with_escapes_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    from offload.cli.deployment.options import print_columns

    print_columns([("\x1b", "a"), ("bbbbbb", "c")])
    assert capsys.readouterr().out == "\\x1b    a\nbbbbbb  c\n"


# -- the characters


def test_every_character_that_steers_or_hides_is_escaped_and_no_letter_is() -> None:
    for point in range(sys.maxunicode + 1):
        character = chr(point)
        category = unicodedata.category(character)
        if category in STEERS:
            assert visible(character).isascii(), hex(point)
            assert visible(character).startswith("\\")
            assert character in "\n\t" or visible_block(character) == visible(character)
            if character != "\n":
                assert json.loads(visible_json(json.dumps(character, ensure_ascii=False))) == character
                assert visible_json(json.dumps(character, ensure_ascii=False)).isascii()
        elif category != "Cn":
            assert visible(character) == character, hex(point)


def test_escapes_say_which_character_it_was() -> None:
    assert visible("a\n\r\t\x1b\x9b\u202e\U000e0041é漢😀") == "a\\n\\r\\t\\x1b\\x9b\\u202e\\U000e0041é漢😀"
    assert visible_block("a\n\tb\r") == "a\n\tb\\r"
    assert visible_json('{\n "\U000e0041é": "\x7f"}') == '{\n "\\udb40\\udc41é": "\\u007f"}'


# -- the sources


# What runs as processes of their own, in other environments, whose output is a file.
APART = {COMMAND_LINE / "local" / f"{name}.py" for name in ("durable_runner", "emulator", "fork_server")}


def test_nothing_of_the_command_line_prints_past_the_terminal() -> None:
    files = {file for file in COMMAND_LINE.rglob("*.py") if file.parent.name != "terminal"}
    assert past_the_terminal(files - APART) == []


@pytest.mark.parametrize(
    "source",
    [
        "print(1)", "typer.echo('x')", "typer.confirm('x')", "sys.stdout.write('x')", "print('x', file=sys.stderr)",
        "os.write(1, b'x')", "logging.StreamHandler()", "from rich.console import Console", "from rich import print",
        "import rich", "Progress(SpinnerColumn())", "subprocess.run(['ls'])", "subprocess.Popen(['ls'], stdout=PIPE)",
        "open('/dev/tty', 'w')", "Text.from_markup('x')", "from typer import echo", "from sys import stdout",
    ],
)  # fmt: skip
def test_the_reading_of_the_sources_finds_a_way_around(source: str) -> None:
    assert list(around(ast.parse(source)))
