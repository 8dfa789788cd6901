"""Where a text ends: `$` of Python takes one line's end more than the pattern says, so no pattern of ours has it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clinic.catalogue import CATALOGUE
from offload.cdk import environment
from offload.cli.schemas.openapi import apis, document
from offload.contracts.fields import is_field_name, is_field_value
from offload.contracts.http_api import IDEMPOTENCY_KEY
from offload.contracts.jobs import api as jobs_api
from offload.contracts.webhooks_out import api as subscriptions_api
from offload.contracts.webhooks_out.subscription import HeaderName, HeaderValue, Tenant
from offload.project import PROJECT

# A `$` that ends a text: at the end of the pattern, of a group or of an alternative.
END = re.compile(r"(?<!\\)\$(?=\Z|[|)])")
TAKES_PATTERNS = {"compile", "match", "search", "sub", "split", "findall", "finditer", "Meta"}


def ours() -> list[Path]:
    """The folders of this project's code, the framework's and the app's."""
    others = {"tests", "node_modules", "cdk.out", "dist"}
    return [each for each in PROJECT.iterdir() if each.is_dir() and each.name[0] != "." and each.name not in others]


def patterns() -> Iterator[tuple[str, str]]:
    """Every text of ours that is a pattern, with its place: what `re` and Meta are given, and what looks like one."""
    for folder in ours():
        for path in sorted(folder.rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            given: list[ast.AST] = []
            for node in ast.walk(tree):
                if isinstance(node, ast.Call):
                    function = node.func
                    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
                    if name in TAKES_PATTERNS:
                        given += [*node.args[:1], *(each.value for each in node.keywords if each.arg == "pattern")]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("^"):
                    given.append(node)
            for node in {each for top in given for each in ast.walk(top)}:
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield f"{path.relative_to(PROJECT)}:{node.lineno}", node.value


def test_no_pattern_ends_a_text_by_a_dollar() -> None:
    found = dict(patterns())
    assert len(found) > 50
    assert {place: text for place, text in found.items() if END.search(text)} == {}


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Tenant, "clinic"),
        (HeaderName, "X-Key"),
        (HeaderValue, "value"),
        (subscriptions_api.Cursor, "abc"),
        (jobs_api.Cursor, "2026-11-29T10:00:00.000#id"),
    ],
)
def test_a_line_s_end_is_no_part_of_what_a_contract_takes(kind: Any, text: str) -> None:
    assert msgspec.convert(text, kind) == text
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text + "\n", kind)


def test_a_line_s_end_is_no_part_of_an_idempotency_key_or_of_a_header() -> None:
    assert re.search(IDEMPOTENCY_KEY, "key-1")
    assert not re.search(IDEMPOTENCY_KEY, "key-1\n")
    assert (is_field_name("X-Key"), is_field_name("X-Key\n")) == (True, False)
    assert (is_field_value("a b"), is_field_value("a b\n"), is_field_value("")) == (True, False, True)


def test_a_line_s_end_is_no_part_of_what_an_environment_s_file_says() -> None:
    for kind, name, text in (
        (environment.Aws, "account", "111122223333"),
        (environment.Aws, "region", "eu-west-1"),
        (environment.Alarms, "email", "ops@offload.dev"),
    ):
        assert getattr(msgspec.convert({name: text}, kind), name) == text
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({name: text + "\n"}, kind)


def test_what_is_published_has_the_end_that_json_schema_knows() -> None:
    for api in apis(CATALOGUE):
        text = msgspec.json.encode(document(api)).decode()
        assert '$"' in text
        assert "\\\\Z" not in text
