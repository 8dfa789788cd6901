"""What narrows a subscription: patterns of types, and filters on fields of the data."""

from __future__ import annotations

from typing import Any

import pytest

from offload.contracts.webhooks_out.filters import BadFilter, check, is_pattern, matches, type_matches

ORDER: dict[str, Any] = {
    "country": "France",
    "total": "12.50",
    "units": 7,
    "paid": True,
    "customer": None,
    "lines": [{"product": "85123A", "quantity": 6, "note": "blue"}, {"product": "POST", "quantity": 1}],
    "empty": [],
    "tags": ["gift", "rush"],
}


@pytest.mark.parametrize(
    ("patterns", "event_type", "takes"),
    [
        (["order.placed"], "order.placed", True),
        (["order.placed"], "order.placed.late", False),
        (["order.*"], "order.placed", True),
        (["order.*"], "order.placed.late", True),
        (["order.*"], "order", False),
        (["order.*"], "orders.placed", False),
        (["stock.low", "job.*"], "job.finished", True),
        (["*"], "anything.at.all", True),
        ([], "order.placed", False),
    ],
)
def test_a_pattern_takes_a_type_a_prefix_or_all(patterns: list[str], event_type: str, takes: bool) -> None:
    assert type_matches(patterns, event_type) is takes


@pytest.mark.parametrize(
    "text", ["", "order.", ".order", "order..placed", "or*der", "order.*.x", "a b", "ä", "x" * 300]
)
def test_what_is_no_pattern_is_told(text: str) -> None:
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({"country": ["France"]}, True),
        ({"country": ["Spain", "France"]}, True),
        ({"country": ["Spain"]}, False),
        ({"country": ["France"], "units": [8]}, False),
        ({"units": [7]}, True),
        ({"units": ["7"]}, False),
        ({"paid": [True]}, True),
        ({"paid": [1]}, False),
        ({"customer": [None]}, True),
        ({"nothing": [None]}, False),
        ({"country": [{"prefix": "Fr"}]}, True),
        ({"country": [{"suffix": "land"}]}, False),
        ({"country": [{"anything-but": ["Spain"]}]}, True),
        ({"country": [{"anything-but": "France"}]}, False),
        ({"missing": [{"anything-but": "France"}]}, False),
        ({"country": [{"exists": True}]}, True),
        ({"missing": [{"exists": False}]}, True),
        ({"country": [{"exists": False}]}, False),
        ({"units": [{"numeric": [">", 5, "<=", 7]}]}, True),
        ({"units": [{"numeric": [">", 7]}]}, False),
        ({"total": [{"numeric": [">=", 12.5]}]}, True),
        ({"country": [{"numeric": [">", 0]}]}, False),
        ({"paid": [{"numeric": ["=", 1]}]}, False),
        ({"lines": {"product": ["POST"]}}, True),
        ({"lines": {"product": ["POST"], "quantity": [6]}}, False),
        ({"lines": {"quantity": [{"numeric": [">", 5]}]}}, True),
        ({"tags": ["rush"]}, True),
        ({"tags": ["late"]}, False),
        ({"country": {"code": ["FR"]}}, False),
        # What the page on operators says of `exists`: it looks at leaves.
        ({"missing": {"code": [{"exists": False}]}}, True),
        ({"missing": {"code": {"deeper": [{"exists": False}]}}}, True),
        ({"missing": {"code": [{"exists": True}]}}, False),
        ({"country": {"code": [{"exists": False}]}}, True),
        ({"customer": {"code": [{"exists": False}]}}, True),
        ({"lines": [{"exists": True}]}, False),
        ({"lines": [{"exists": False}]}, True),
        ({"lines": {"product": [{"exists": False}]}}, False),
        ({"lines": {"gift": [{"exists": False}]}}, True),
        ({"lines": {"gift": [{"exists": False}], "product": ["POST"]}}, True),
        ({"lines": {"note": [{"exists": False}]}}, False),
        ({"lines": {"note": [{"exists": False}], "product": ["POST"]}}, True),
        ({"lines": {"note": [{"exists": False}], "product": ["85123A"]}}, False),
        ({"empty": [{"exists": False}]}, True),
        ({"empty": [{"exists": True}]}, False),
        ({"empty": {"code": [{"exists": False}]}}, True),
        ({"empty": [{"anything-but": "a"}]}, False),
        ({"customer": [{"exists": True}]}, True),
        ({"units": [{"anything-but": [6, 8]}]}, True),
        ({"tags": [{"anything-but": ["gift"]}]}, True),
        ({"tags": [{"anything-but": ["gift", "rush"]}]}, False),
    ],
)
def test_all_fields_have_to_match_each_by_any_of_its_values(wanted: dict[str, Any], passes: bool) -> None:
    check(wanted)
    assert matches(wanted, ORDER) is passes


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({}, "filter: an object"),
        ({"country": "France"}, r"filter\.country: a list"),
        ({"country": []}, r"filter\.country: a list"),
        ({"country": [["France"]]}, r"filter\.country: a value"),
        ({"lines": {"product": 5}}, r"filter\.lines\.product"),
        ({"a": [{"prefix": 5}]}, r"filter\.a\.prefix"),
        ({"a": [{"like": "x"}]}, r"filter\.a\.like"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, r"filter\.a: a value, or an object with one"),
        ({"a": [{"numeric": [">"]}]}, "numeric"),
        ({"a": [{"numeric": ["!", 1]}]}, "numeric"),
        ({"a": [{"numeric": [[], 1]}]}, "numeric"),
        ({"a": [{"numeric": [">", True]}]}, "numeric"),
        ({"a": [{"numeric": [">", 5, "<", 5]}]}, "numeric"),
        ({"a": [{"numeric": [">=", 5, "<=", 5]}]}, "numeric"),
        ({"a": [{"numeric": [">", 5, "<", 1]}]}, "numeric"),
        ({"a": [{"numeric": ["<", 1, ">", 5]}]}, "numeric"),
        ({"a": [{"numeric": ["<", 5, ">", 1]}]}, "numeric"),
        ({"a": [{"numeric": ["=", 1, "=", 2]}]}, "numeric"),
        ({"a": [{"numeric": ["=", 1, "<", 2]}]}, "numeric"),
        ({"a": [{"anything-but": []}]}, "anything-but"),
        ({"a": [{"anything-but": ["x", 1]}]}, "anything-but"),
        ({"a": [{"anything-but": [True]}]}, "anything-but"),
        ({"a": [{"anything-but": None}]}, "anything-but"),
        ({"a": {"b": {"c": {"d": {"e": {"f": [1]}}}}}}, "deeper"),
        ({"a": ["x" * 3000]}, "longer"),
    ],
)
def test_what_is_no_filter_is_refused_with_the_field(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(BadFilter, match=says):
        check(wanted)
