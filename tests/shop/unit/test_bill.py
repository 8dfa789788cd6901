"""What the shop's environments cost in a month in which nothing arrives, and what documents say of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from offload.cli.costs import environments as costs
from offload.cli.costs.bill import METRICS, Bill, bill
from offload.cli.deployment.failure import Failure
from offload.project import PROJECT
from shop.commands import bill_documents as documents
from tests.assemblies import Templates, templates_in

pytestmark = pytest.mark.synthesis


@pytest.fixture(scope="module")
def templates(assembly_of: Callable[[str], Path]) -> dict[str, Templates]:
    return {name: templates_in(assembly_of(name)) for name in costs.environments()}


@pytest.fixture(scope="module")
def bills(templates: dict[str, Templates]) -> dict[str, Bill]:
    return {name: bill(name, found) for name, found in templates.items()}


# -- the goals, and the documents


@pytest.mark.slow
@pytest.mark.parametrize(("name", "listed", "after_free"), [("dev", 4.00, 2.00), ("prod", 12.00, None)])
def test_an_idle_environment_costs_no_more_than_its_goal(
    bills: dict[str, Bill], name: str, listed: float, after_free: float | None
) -> None:
    assert bills[name].listed <= listed
    assert after_free is None or bills[name].to_pay <= after_free


@pytest.mark.slow
@pytest.mark.parametrize("document", documents.DOCUMENTS)
def test_documents_say_what_the_templates_cost(bills: dict[str, Bill], document: str) -> None:
    text = (PROJECT / document).read_text(encoding="utf-8")
    assert documents.blocks(text), "its markers are gone"
    assert documents.rewritten(text, bills) == text, f"{document} differs: `make bill` rewrites it"


@pytest.mark.slow
def test_a_figure_that_was_changed_by_hand_differs(bills: dict[str, Bill]) -> None:
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    changed = re.sub(r"`dev` costs \$\d+\.\d\d", "`dev` costs $0.01", text)
    assert changed != text
    assert documents.rewritten(changed, bills) == text


@pytest.mark.slow
def test_a_block_that_nobody_writes_is_refused(bills: dict[str, Bill]) -> None:
    with pytest.raises(Failure, match="no block 'bill: yearly': sentence"):
        documents.rewritten("<!-- bill: yearly -->\n<!-- /bill -->\n", bills)


@pytest.mark.slow
def test_no_line_of_an_idle_month_feeds_a_metric(bills: dict[str, Bill]) -> None:
    assert [part for found in bills.values() for part in found.parts if part.meter == METRICS] == []


@pytest.fixture
def at_hand(templates: dict[str, Templates], monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates that are here already, in place of a synthesis."""
    for module in (costs, documents):
        monkeypatch.setattr(module, "synthesized", lambda names: {name: templates[name] for name in names})


@pytest.mark.usefixtures("at_hand")
def test_the_documents_are_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], bills: dict[str, Bill]
) -> None:
    (tmp_path / "docs").mkdir()
    for name in documents.DOCUMENTS:
        whole = (PROJECT / name).read_text(encoding="utf-8")
        emptied = re.sub(r"(<!-- bill: [a-z-]+ -->\n).*?(<!-- /bill -->)", r"\1\2", whole, flags=re.S)
        (tmp_path / name).write_text(emptied, encoding="utf-8")
    monkeypatch.setattr(documents, "PROJECT", tmp_path)
    documents.main()
    assert capsys.readouterr().out == "README.md: rewritten\ndocs/costs.md: rewritten\n"
    documents.main()
    assert capsys.readouterr().out == "README.md: as it was\ndocs/costs.md: as it was\n"
    for name in documents.DOCUMENTS:
        assert documents.rewritten((tmp_path / name).read_text(encoding="utf-8"), bills) == (PROJECT / name).read_text()
