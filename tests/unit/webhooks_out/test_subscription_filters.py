"""What narrows a subscription: patterns of types, and filters on fields of the data."""

from __future__ import annotations

from typing import Any

import pytest

from offload.contracts.webhooks_out.filters import BadFilter, check, is_pattern, matches, type_matches

VISIT: dict[str, Any] = {
    "ward": "Eyes",
    "total": "12.50",
    "units": 7,
    "paid": True,
    "patient": None,
    "lines": [{"item": "85123A", "quantity": 6, "note": "blue"}, {"item": "POST", "quantity": 1}],
    "empty": [],
    "tags": ["gift", "rush"],
}


@pytest.mark.parametrize(
    ("patterns", "event_type", "takes"),
    [
        (["visit.ended"], "visit.ended", True),
        (["visit.ended"], "visit.ended.late", False),
        (["visit.*"], "visit.ended", True),
        (["visit.*"], "visit.ended.late", True),
        (["visit.*"], "visit", False),
        (["visit.*"], "visits.ended", False),
        (["supply.low", "job.*"], "job.finished", True),
        (["*"], "anything.at.all", True),
        ([], "visit.ended", False),
    ],
)
def test_a_pattern_takes_a_type_a_prefix_or_all(patterns: list[str], event_type: str, takes: bool) -> None:
    assert type_matches(patterns, event_type) is takes


@pytest.mark.parametrize("text", ["", "visit.", ".visit", "visit..ended", "vi*sit", "visit.*.x", "a b", "ä", "x" * 300])
def test_what_is_no_pattern_is_told(text: str) -> None:
    assert not is_pattern(text)


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [
        ({"ward": ["Eyes"]}, True),
        ({"ward": ["Teeth", "Eyes"]}, True),
        ({"ward": ["Teeth"]}, False),
        ({"ward": ["Eyes"], "units": [8]}, False),
        ({"units": [7]}, True),
        ({"units": ["7"]}, False),
        ({"paid": [True]}, True),
        ({"paid": [1]}, False),
        ({"patient": [None]}, True),
        ({"nothing": [None]}, False),
        ({"ward": [{"prefix": "Ey"}]}, True),
        ({"ward": [{"suffix": "ears"}]}, False),
        ({"ward": [{"anything-but": ["Teeth"]}]}, True),
        ({"ward": [{"anything-but": "Eyes"}]}, False),
        ({"missing": [{"anything-but": "Eyes"}]}, False),
        ({"ward": [{"exists": True}]}, True),
        ({"missing": [{"exists": False}]}, True),
        ({"ward": [{"exists": False}]}, False),
        ({"units": [{"numeric": [">", 5, "<=", 7]}]}, True),
        ({"units": [{"numeric": [">", 7]}]}, False),
        ({"total": [{"numeric": [">=", 12.5]}]}, True),
        ({"ward": [{"numeric": [">", 0]}]}, False),
        ({"paid": [{"numeric": ["=", 1]}]}, False),
        ({"lines": {"item": ["POST"]}}, True),
        ({"lines": {"item": ["POST"], "quantity": [6]}}, False),
        ({"lines": {"quantity": [{"numeric": [">", 5]}]}}, True),
        ({"tags": ["rush"]}, True),
        ({"tags": ["late"]}, False),
        ({"ward": {"code": ["EY"]}}, False),
        # What the page on operators says of `exists`: it looks at leaves.
        ({"missing": {"code": [{"exists": False}]}}, True),
        ({"missing": {"code": {"deeper": [{"exists": False}]}}}, True),
        ({"missing": {"code": [{"exists": True}]}}, False),
        ({"ward": {"code": [{"exists": False}]}}, True),
        ({"patient": {"code": [{"exists": False}]}}, True),
        ({"lines": [{"exists": True}]}, False),
        ({"lines": [{"exists": False}]}, True),
        ({"lines": {"item": [{"exists": False}]}}, False),
        ({"lines": {"gift": [{"exists": False}]}}, True),
        ({"lines": {"gift": [{"exists": False}], "item": ["POST"]}}, True),
        ({"lines": {"note": [{"exists": False}]}}, False),
        ({"lines": {"note": [{"exists": False}], "item": ["POST"]}}, True),
        ({"lines": {"note": [{"exists": False}], "item": ["85123A"]}}, False),
        ({"empty": [{"exists": False}]}, True),
        ({"empty": [{"exists": True}]}, False),
        ({"empty": {"code": [{"exists": False}]}}, True),
        ({"empty": [{"anything-but": "a"}]}, False),
        ({"patient": [{"exists": True}]}, True),
        ({"units": [{"anything-but": [6, 8]}]}, True),
        ({"tags": [{"anything-but": ["gift"]}]}, True),
        ({"tags": [{"anything-but": ["gift", "rush"]}]}, False),
    ],
)
def test_all_fields_have_to_match_each_by_any_of_its_values(wanted: dict[str, Any], passes: bool) -> None:
    check(wanted)
    assert matches(wanted, VISIT) is passes


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({}, "filter: an object"),
        ({"ward": "Eyes"}, r"filter\.ward: a list"),
        ({"ward": []}, r"filter\.ward: a list"),
        ({"ward": [["Eyes"]]}, r"filter\.ward: a value"),
        ({"lines": {"item": 5}}, r"filter\.lines\.item"),
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
