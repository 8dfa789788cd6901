"""What the command line prints of texts that strangers wrote: none of them steers the terminal, or forges a line."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
import types
import typing
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import typer
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner, Result

from offload.cli import main as command_line
from offload.cli import terminal
from offload.cli.audit import events as audit
from offload.cli.deployment import logs, resources, status
from offload.cli.deployment.failure import Failure
from offload.cli.events import dead_letter_commands, outbox_commands
from offload.cli.events.dead_letters import DeadLetters
from offload.cli.integrations import integrations
from offload.cli.jobs import commands as jobs_commands
from offload.cli.main import SUB_COMMANDS, app
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
from shop import commands
from shop.catalogue import CATALOGUE
from shop.commands import change_log as change_log_commands
from shop.commands import ledger as ledger_commands
from shop.commands import orders as orders_commands
from shop.commands import publishing as orders
from shop.commands import rates as rates_commands
from shop.ledger import Ledger
from shop.orders import BadRow

STEERS = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# A clipboard write, a hidden link, a C1 control, overrides, a zero width, a tag, line ends, and a line of its own.
HOSTILE = (
    "\x1b]52;c;QUJD\x07\x1b]8;;http://evil\x1b\\\x9b31m\u202ea\u2066b\u200bc\U000e0041\x00\x7f\rd\x85\u2028"
    "\nFORGED It adds up.[red]:smile:[/nope][link=http://evil]"
)
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
COMMAND_LINE = Path(terminal.__file__).parents[1]
APP_COMMANDS = Path(str(commands.__file__)).parent


def steering(text: str) -> set[str]:
    """What is left in an output that a terminal, or a reader, could take otherwise than as its characters."""
    return {character for character in text if character != "\n" and unicodedata.category(character) in STEERS}


# -- an answer with the text in every field


def filled(kind: Any) -> Any:
    """A value of the type with HOSTILE in every field of text, however deep."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return filled(arguments[0])
    if origin is typing.Literal:
        return arguments[0]
    if origin in (typing.Union, types.UnionType):
        return filled(next(each for each in arguments if each not in (type(None), msgspec.UnsetType)))
    if origin is tuple:
        return (filled(arguments[0]),) if arguments[-1] is ... else tuple(filled(each) for each in arguments)
    if origin is list or origin is Sequence:
        return [filled(arguments[0])]
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return {filled(arguments[0]): filled(arguments[1])}
    plain: dict[Any, Any] = {
        str: HOSTILE, int: 1, float: 1.0, bool: True, bytes: HOSTILE.encode(), datetime: NOW, date: NOW.date(),
        Decimal: Decimal(1), Any: HOSTILE, object: HOSTILE, timedelta: timedelta(1),
        msgspec.Raw: msgspec.Raw(json.dumps({HOSTILE: HOSTILE}, ensure_ascii=False).encode()),
    }  # fmt: skip
    if kind in plain:
        return plain[kind]
    assert isinstance(kind, type), kind
    if issubclass(kind, Enum):
        return next(iter(kind))
    assert is_dataclass(kind) or issubclass(kind, msgspec.Struct | tuple), kind
    return kind(**{name: filled(of) for name, of in typing.get_type_hints(kind).items()})


class Answering:
    """Stands for a client: each of its methods answers with what its annotation says, filled."""

    def __init__(self, of: type, **said: Callable[..., Any]) -> None:
        self._of = of
        self._said = said

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name in self._said:
            return self._said[name]
        method = getattr(self._of, name)
        names = {**vars(sys.modules[method.__module__])}
        kind = eval(method.__annotations__["return"], names)  # noqa: S307 - our own annotations
        return lambda *_, **__: filled(kind)


def given(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def entered(value: Any) -> Callable[..., Any]:
    @contextmanager
    def enter(*_: Any, **__: Any) -> Iterator[Any]:
        yield value

    return enter


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
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.setattr(jobs_commands, "_LOOK_EVERY", 0.01)
    deployment = SimpleNamespace(
        environment="local",
        aws=SimpleNamespace(s3=None, instance=None, dynamodb=None),
        bucket=given("bucket"),
        table=given("table"),
        function=given(filled(resources.Function)),
        # Of several stacks the commands say which.
        webhook_entries=(None, None),
    )
    monkeypatch.setattr(resources.Deployment, "of", staticmethod(given(deployment)))
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
    page = {"month": HOSTILE, "key": HOSTILE, "changed_at": HOSTILE, "markdown": HOSTILE, "bytes": 1}
    monkeypatch.setattr(change_log_commands, "page_in", given(page))
    monkeypatch.setattr(change_log_commands, "pages_in", given([page]))
    monkeypatch.setattr(outbox_commands, "_engine", given(None))
    monkeypatch.setattr(Outbox, "status", given(filled(Status)))
    monkeypatch.setattr(Outbox, "held", given([filled(HeldEvent)]))
    rates = {"day": HOSTILE, "stale": True, "of_the_day": True, "working_days_behind": 1, "rates": {HOSTILE: HOSTILE}}
    differing = [{"day": HOSTILE, "source": HOSTILE, "reason": HOSTILE, "rates": {}}]
    monkeypatch.setattr(
        rates_commands, "document_of", given({**rates, "oldest": HOSTILE, "newest": HOSTILE, "differing": differing})
    )
    monkeypatch.setattr(
        rates_commands, "rates_table", given(SimpleNamespace(newest=given(SimpleNamespace(day=HOSTILE))))
    )
    monkeypatch.setattr(ledger_commands, "_sections_of", given(None))
    monkeypatch.setattr(ledger_commands, "_ledger_of", given(filled(Ledger)))
    read = SimpleNamespace(invoices=(), bad_rows=[filled(BadRow)], bad_invoices=[HOSTILE])
    monkeypatch.setattr(orders_commands, "_read", given(read))
    monkeypatch.setattr(orders, "publish", given(filled(orders.Outcome)))
    region = SimpleNamespace(session=SimpleNamespace(region_name="eu-west-1"))
    monkeypatch.setattr(report, "run", given(([filled(Item)], region)))


SHOWN = {
    "audit": (),
    "change-log show": (),
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
    "ledger show": (),
    "logs": ("A",),
    "orders publish": ("a.csv", "--skip-bad"),
    "outbox status": ("--database-url", "sqlite://"),
    "preflight": ("dev",),
    "rates show": (),
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
    "orders generate", "outbox discard", "outbox relay", "outbox retry", "protect", "rates import", "receiver",
    "subscriptions create", "subscriptions delete", "subscriptions rotate", "subscriptions rotate-sealing-key",
    "target", "up", "webhooks rotate",
}  # fmt: skip
"""The commands that say what they did, in words of ours, of what was typed."""


def ran(command: str, *more: str) -> Result:
    return CliRunner().invoke(app, [*command.split(), *SHOWN[command], *more], input="")


def test_every_command_is_known_to_show_what_others_wrote_or_not() -> None:
    group: Any = typer.main.get_command(app)
    groups = SUB_COMMANDS.keys() | CATALOGUE.commands.keys()
    names = {
        f"{name} {each}" if name in groups else name
        for name in group.list_commands(None)
        for each in (group.get_command(None, name).commands if name in groups else [""])
    }
    assert names == SHOWN.keys() | OWN_WORDS


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_command_shows_controls_of_strangers_as_escapes_and_in_one_line(command: str) -> None:
    result = ran(command)
    assert result.exception is None or isinstance(result.exception, SystemExit | Failure), result.exception
    assert steering(result.output) == set()
    assert ("\\u001b]52;c;QUJD\\u0007" if command == "jobs result" else "\\x1b]52;c;QUJD\\x07") in result.output
    assert not [line for line in result.output.split("\n") if line.startswith("FORGED")]


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_command_escapes_controls_in_json_and_the_document_is_the_same(command: str) -> None:
    result = ran(command, "--json")
    assert result.exception is None or isinstance(result.exception, SystemExit | Failure), result.exception
    assert steering(result.output) == set()
    assert "\\u001b]52;c;QUJD\\u0007" in result.stdout
    lines = result.stdout.splitlines() if command == "logs" else [result.stdout]
    assert any(HOSTILE in text for line in lines for text in texts(json.loads(line)))


def texts(document: Any) -> Iterator[str]:
    match document:
        case str():
            yield document
        case dict():
            for name, value in document.items():
                yield name
                yield from texts(value)
        case list():
            for value in document:
                yield from texts(value)


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", ["jobs list", "jobs show", "jobs watch"])
def test_a_job_in_any_state_is_shown_without_controls(
    command: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "jobs watch" and not state.ended:
        return  # one that never ends is watched for ever
    monkeypatch.setattr(jobs_commands, "service_of", entered(jobs_of(state)))
    result = ran(command)
    assert steering(result.output) == set()
    assert "FORGED" not in {line[:6] for line in result.output.split("\n")}


@pytest.mark.usefixtures("strangers")
def test_a_page_of_the_change_log_keeps_its_lines_and_loses_its_controls() -> None:
    result = ran("change-log show", "--month", "2026-11")
    assert steering(result.output) == set()
    assert "\nFORGED" in result.output


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


def around(tree: ast.AST) -> Iterator[str]:
    """Each place in a source that prints past `offload.cli.terminal`, as line: what."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id="print" | "input" | "breakpoint" as name)):
                yield f"{node.lineno}: {name}()"
            case ast.Attribute(
                value=ast.Name(id="typer" | "click"),
                attr="echo" | "secho" | "echo_via_pager" | "confirm" | "prompt" | "launch" | "progressbar" as name,
            ):
                yield f"{node.lineno}: {name}"
            case ast.Attribute(
                value=ast.Name(id="sys"), attr="stdout" | "stderr" | "__stdout__" | "__stderr__" as name
            ):
                yield f"{node.lineno}: sys.{name}"
            case ast.Attribute(value=ast.Name(id="os"), attr="write" | "writev" | "dup2" | "system" as name):
                yield f"{node.lineno}: os.{name}"
            case ast.Attribute(value=ast.Name(id="logging"), attr="StreamHandler" | "basicConfig" as name):
                yield f"{node.lineno}: logging.{name}"
            case ast.Attribute(attr="from_markup" | "from_ansi" as name):
                yield f"{node.lineno}: {name}"
            case ast.Constant(value=str() as text) if text.startswith(("/dev/tty", "/dev/std", "/dev/fd")):
                yield f"{node.lineno}: {text}"
            case ast.ImportFrom(module=str() as module, names=names):
                for each in names:
                    if f"{module}.{each.name}" in FORBIDDEN or module in FORBIDDEN - {"rich"}:
                        yield f"{node.lineno}: {module}.{each.name}"
            case ast.Import(names=names):
                yield from (f"{node.lineno}: {each.name}" for each in names if each.name in FORBIDDEN)
            case ast.Call(func=ast.Name(id="Progress" | "Live" as name), keywords=keywords) if not any(
                each.arg == "console" for each in keywords
            ):
                yield f"{node.lineno}: {name}() on a console of rich's own"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="subprocess")), keywords=keywords):
                names_given = {each.arg for each in keywords}
                if "capture_output" not in names_given and not {"stdout", "stderr"} <= names_given:
                    yield f"{node.lineno}: a process that prints where we do"


FORBIDDEN = {
    "rich", "rich.console", "rich.console.Console", "rich.get_console", "rich.print", "rich.print_json", "rich.prompt",
    "rich.pretty", "rich.traceback", "rich.logging", "rich.markdown", "rich.text", "rich.live", "typer.echo",
    "typer.secho", "typer.confirm", "typer.prompt", "click", "sys.stdout", "sys.stderr", "getpass", "curses", "pprint",
}  # fmt: skip

# What runs as processes of their own, in other environments, whose output is a file.
APART = {COMMAND_LINE / "local" / f"{name}.py" for name in ("durable_runner", "emulator", "fork_server")}


def test_nothing_of_the_command_line_prints_past_the_terminal() -> None:
    found = [
        f"{file}:{place}"
        for file in sorted([*COMMAND_LINE.rglob("*.py"), *APP_COMMANDS.rglob("*.py")])
        if file.parent.name != "terminal" and file not in APART
        for place in around(ast.parse(file.read_text("utf-8")))
    ]
    assert found == []


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
