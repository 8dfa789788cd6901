"""What `offload new` writes into the shop and takes out again, and what the documents show of it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from offload.cli.new import kinds, parts
from offload.contracts.webhooks_in.scheme import Providers
from offload.project import PROJECT, Project
from tests.unit.cli.generated_parts import put_in, take_out, texts


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of it, as far as a part of it concerns."""
    folder = tmp_path / "clone"
    for name in ("app.py", "cdk.json", "pyproject.toml", "shop", "stacks", "lambdas", "schemas", "environments"):
        source = PROJECT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        (folder / name).parent.mkdir(exist_ok=True)
        copy(source, folder / name)
    # As in a clone, where it is no third party's.
    (folder / "offload").symlink_to(PROJECT / "offload")
    for tests in ("unit", "shop/unit"):
        (folder / "tests" / tests).mkdir(parents=True)
    return folder


@pytest.mark.slow
def test_a_part_of_several_kinds_is_in_its_places_and_passes_and_is_taken_out_again(shop: Path) -> None:
    before = texts(shop)
    # Of the kinds those that differ by where the shop's contracts, tests and schemas are.
    made = ["appointment.booked", "appointment_reminder", "yearly_count", "appointments"]
    put_in(shop, "shop", made)
    assert not any((shop / "tests" / "unit").iterdir())  # where the framework's are
    take_out(shop, "shop", made, before)


@pytest.mark.parametrize(
    ("document", "begins", "make"),
    [
        ("docs/integrations.md", "## A new one", lambda app: kinds.integration(app, "carrier", "order.placed")),
        ("docs/webhooks.md", "# Webhooks", lambda app: kinds.webhook(app, "github")),
    ],
)
def test_the_documents_show_what_is_written(
    shop: Path, document: str, begins: str, make: Callable[[parts.App], parts.Part]
) -> None:
    app = parts.App.of(Project.at(shop))
    # As it is before the provider is there.
    app = replace(app, catalogue=replace(app.catalogue, providers=Providers(app.catalogue.providers.module)))
    part = make(app)
    section = re.split(r"(?m)^#+ .*$", (PROJECT / document).read_text().partition(f"{begins}")[2].partition("\n")[2])[0]
    examples = re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", section)
    assert examples
    made = [*part.added.values(), *part.changed.values()]
    for example in examples:
        assert any(_squeezed(example) in _squeezed(text) for text in made), example


def _squeezed(text: str) -> str:
    """Without the indentation that a document's list gives it."""
    return "\n".join(line.strip() for line in text.strip().splitlines())
