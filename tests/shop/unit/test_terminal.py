"""What the shop's commands print of texts that strangers wrote: none of them steers the terminal, or forges a line."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from shop import commands
from shop.catalogue import CATALOGUE
from shop.commands import change_log as change_log_commands
from shop.commands import ledger as ledger_commands
from shop.commands import orders as orders_commands
from shop.commands import publishing
from shop.commands import rates as rates_commands
from shop.ledger import Ledger
from shop.orders import BadRow
from tests.unit.cli.strangers import (
    HOSTILE,
    assert_escapes_in_json,
    assert_shows_escapes,
    commands_with,
    deployment_of_strangers,
    filled,
    given,
    past_the_terminal,
    ran,
    steering,
)

SHOWN = {
    "change-log show": (),
    "ledger show": (),
    "orders publish": ("a.csv", "--skip-bad"),
    "rates show": (),
}
"""The commands that show what others wrote, with the arguments that they need."""

OWN_WORDS = {"orders generate", "rates import"}
"""The commands that say what they did, in words of ours, of what was typed."""


@pytest.fixture
def strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the commands ask answers with HOSTILE wherever it answers with text."""
    deployment_of_strangers(monkeypatch)
    page = {"month": HOSTILE, "key": HOSTILE, "changed_at": HOSTILE, "markdown": HOSTILE, "bytes": 1}
    monkeypatch.setattr(change_log_commands, "page_in", given(page))
    monkeypatch.setattr(change_log_commands, "pages_in", given([page]))
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
    monkeypatch.setattr(publishing, "publish", given(filled(publishing.Outcome)))


def test_every_command_is_known_to_show_what_others_wrote_or_not() -> None:
    found = {name for name in commands_with(CATALOGUE) if name.partition(" ")[0] in CATALOGUE.commands}
    assert found == SHOWN.keys() | OWN_WORDS


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_command_shows_controls_of_strangers_as_escapes_and_in_one_line(command: str) -> None:
    assert_shows_escapes(command, *SHOWN[command])


@pytest.mark.usefixtures("strangers")
@pytest.mark.parametrize("command", sorted(SHOWN))
def test_a_command_escapes_controls_in_json_and_the_document_is_the_same(command: str) -> None:
    assert_escapes_in_json(command, *SHOWN[command])


@pytest.mark.usefixtures("strangers")
def test_a_page_of_the_change_log_keeps_its_lines_and_loses_its_controls() -> None:
    result = ran("change-log show", "--month", "2026-11")
    assert steering(result.output) == set()
    assert "\nFORGED" in result.output


def test_nothing_of_the_commands_prints_past_the_terminal() -> None:
    files = list(Path(str(commands.__file__)).parent.rglob("*.py"))
    assert files
    assert past_the_terminal(files) == []
