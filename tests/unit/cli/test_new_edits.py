"""Small changes of an app's modules, as `offload new` and `offload remove` make them: laid out as ruff does it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from offload.cli.deployment.failure import Failure
from offload.cli.new import cut, edit
from offload.cli.new.source import calls, has

OWN = ("clinic", "stacks")
LONG = "a_rather_long_name_that_fills_the_line"


def formatted(text: str) -> str:
    command = [str(Path(sys.executable).with_name("ruff")), "format", "--line-length", "120", "--isolated", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("C(__name__)\n", "C(__name__, events=(New,))\n"),
        ("C(__name__, events=())\n", "C(__name__, events=(New,))\n"),
        ("C(__name__, events=(A,))\n", "C(__name__, events=(A, New))\n"),
        ("C(\n    events=(\n        A,\n    ),\n)\n", "C(\n    events=(\n        A,\n        New,\n    ),\n)\n"),
        ("é = 1; C(events=(A, *B))  # é\n", "é = 1; C(events=(A, *B, New))  # é\n"),
    ],
)
def test_an_item_is_added_where_it_belongs(before: str, after: str) -> None:
    assert edit.with_item(before, calls("C"), "events", "New", "c.py") == after


@pytest.mark.parametrize("text", ["D()\n", "C(events=[A])\n", "C(events=A)\n", "C(\n"])
def test_where_an_item_has_no_place_it_is_left_to_a_person(text: str) -> None:
    with pytest.raises(Failure, match=r"^c\.py"):
        edit.with_item(text, calls("C"), "events", "New", "c.py")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "import clinic.z\nfrom clinic.c import D\n",
            "import clinic.z\nfrom clinic.b import New\nfrom clinic.c import D\n",
        ),
        (
            "from clinic.a import B\nfrom clinic.b import Zed, a\n",
            "from clinic.a import B\nfrom clinic.b import New, Zed, a\n",
        ),
        ("from clinic.b import Zed as Z\n", "from clinic.b import New\nfrom clinic.b import Zed as Z\n"),
        ("import json\n\nimport boto3\n", "import json\n\nimport boto3\n\nfrom clinic.b import New\n"),
        ("import json\n\nfrom .a import B\n", "import json\n\nfrom clinic.b import New\n\nfrom .a import B\n"),
        ("from .a import B\n", "from clinic.b import New\n\nfrom .a import B\n"),
    ],
)
def test_an_import_is_added_in_its_place(before: str, after: str) -> None:
    assert edit.with_import(before, "clinic.b", "New", OWN, "c.py") == after


@pytest.mark.parametrize(
    "before",
    [
        f"C({LONG}, {LONG}, a=1)\n",
        f"x: Final = C(\n    {LONG}, {LONG}, {LONG[:30]}, a=1\n)\n",
        f"C(\n    {LONG},\n    {LONG},\n    a=1,\n)\n",
        f"x: Final = C({LONG}, {LONG}, (1, 2))\n",
        f"C(a=({LONG}, {LONG}, {LONG[:20]}, b))\n",
    ],
)
def test_a_call_that_gets_too_long_is_laid_out_as_ruff_does_it(before: str) -> None:
    assert formatted(before) == before
    text = before
    for name in ("one", "two", "three", "four"):
        text = edit.with_argument(text, calls("C"), f"{name}=({LONG},)", "c.py")
        assert text == formatted(text)
        text = edit.with_item(text, calls("C"), name, LONG, "c.py")
        assert text == formatted(text)


STACK = """\
class Desk:
    def __init__(self) -> None:
        first(self)
        # What is said of it.
        carrier = Integration(self, "Carrier")
        EventConsumer(self, source="parcels", grants=(carrier.call, bus.publish), calls=1)
        if used:
            EventConsumer(self, source="alone")
"""


def test_a_statement_is_taken_out_with_what_is_said_of_it() -> None:
    text = cut.without_call(STACK, has("source", "parcels"), "s.py")
    assert "parcels" not in text
    text = cut.without_call(text, calls("Integration"), "s.py")
    assert "What is said" not in text
    assert text == formatted(text)


@pytest.mark.parametrize(
    ("match", "says"),
    [
        (calls("Integration"), r"s\.py:6: uses `carrier`, which would be removed"),
        (has("source", "alone"), r"s\.py:8: a block would be empty"),
        (has("source", "other"), r"s\.py: does not have the call"),
    ],
)
def test_a_statement_that_cannot_go_is_left_to_a_person(match: Any, says: str) -> None:
    with pytest.raises(Failure, match=says):
        cut.without_call(STACK, match, "s.py")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("C(A, Old, B)\n", "C(A, B)\n"),
        ("C(events=(A, Old))\n", "C(events=(A,))\n"),
        ("C(events=(Old,), jobs=())\n", "C(jobs=())\n"),
        ("C(\n    events=(\n        A,\n        Old,\n    ),\n)\n", "C(\n    events=(\n        A,\n    ),\n)\n"),
        ("C(\n    A,\n    events=(Old,),\n)\n", "C(\n    A,\n)\n"),
        ("C(\n    A,\n    Old,\n)\n", "C(\n    A,\n)\n"),
    ],
)
def test_an_item_is_taken_out(before: str, after: str) -> None:
    assert cut.without_item(before, calls("C"), "Old", "c.py") == after


def test_an_import_goes_with_its_last_use_and_no_other() -> None:
    before = "import json\n\nfrom a import A, Old, Unused\n\nfrom clinic.b import Old2\n\nA(Old, Old2)\n"
    after = cut.without_unused_imports(before, before.replace("A(Old, Old2)", "A()"), "c.py")
    assert after == "import json\n\nfrom a import A, Unused\n\nA()\n"
