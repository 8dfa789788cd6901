"""What narrows a subscription: patterns of event types, and a filter on the fields of the data.

The filter is written as EventBridge's event patterns are (eb-create-pattern-operators.html, read 2026-11-27), of which
it takes exact values, `prefix`, `suffix`, `anything-but`, `exists` and `numeric`: all named fields must match, each by
any of its values. A field that is a list matches when one of its elements does; an empty one is not there. `exists`
looks at values, not at objects: below what is missing, or is no object, nothing is there.

Two things are wider than EventBridge's: numbers are equal by their value (300 and 300.0), and `numeric` takes those
that are written as text, as amounts of money are. What EventBridge refuses is refused: an empty `anything-but`, or one
of other than texts or numbers, and ranges in which no number is.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

Filter: TypeAlias = dict[str, Any]

LONGEST_FILTER: Final = 2048  # characters of its JSON
DEEPEST_FILTER: Final = 5
ALL: Final = "*"

_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?|\*")
_SCALARS: Final = (str, int, float, bool, type(None))


class BadFilter(ValueError):
    """A pattern or filter that cannot be; the message says where and what it takes."""


def is_pattern(text: str) -> bool:
    """Whether this can be one of a subscription's event types: a type, a prefix with `.*`, or `*` for all."""
    return len(text) <= 256 and _TYPE.fullmatch(text) is not None


def type_matches(patterns: Iterable[str], event_type: str) -> bool:
    """Whether one of the patterns is this type, or a prefix of it: `job.*` takes `job.finished`."""
    return any(
        pattern in (ALL, event_type) or (pattern.endswith(".*") and event_type.startswith(pattern[:-1]))
        for pattern in patterns
    )


def check(wanted: Filter) -> None:
    """Raises BadFilter, with the field's path, for what is no filter."""
    if len(msgspec.json.encode(wanted)) > LONGEST_FILTER:
        raise BadFilter(f"filter: longer than {LONGEST_FILTER} characters")
    _check(wanted, "filter", 1)


def matches(wanted: Filter, data: Any) -> bool:
    """Whether an event's data (as JSON gives it) passes a filter that was checked."""
    if not isinstance(data, dict):
        return False
    return all(_field(rule, list(_elements(data[name])) if name in data else []) for name, rule in wanted.items())


def _elements(value: Any) -> Iterator[Any]:
    """The value, or those of a list, also of one within a list."""
    if not isinstance(value, list):
        yield value
        return
    for each in value:
        yield from _elements(each)


def _field(rule: Any, values: list[Any]) -> bool:
    if not isinstance(rule, dict):
        leaves = [each for each in values if not isinstance(each, dict)]
        return any(_value(each, leaves) for each in rule)
    objects = [each if isinstance(each, dict) else {} for each in values] or [{}]
    # What is in none of them is not there; all else one of them has.
    found = [matches(rule, each) for each in objects]
    return all(found) if _wants_nothing(rule) else any(found)


def _wants_nothing(rule: Filter) -> bool:
    """Whether it is a rule of `exists: false` alone."""
    return all(
        _wants_nothing(each) if isinstance(each, dict) else each == [{"exists": False}] for each in rule.values()
    )


def _value(one: Any, values: list[Any]) -> bool:
    if not isinstance(one, dict):
        return any(_same(one, value) for value in values)
    [(name, wanted)] = one.items()
    if name == "exists":
        return bool(bool(values) == wanted)
    if name == "anything-but":
        others = wanted if isinstance(wanted, list) else [wanted]
        return any(not any(_same(other, value) for other in others) for value in values)
    if name == "numeric":
        bounds = [(_COMPARE[wanted[at]], wanted[at + 1]) for at in range(0, len(wanted), 2)]
        numbers = [number for number in map(_number, values) if number is not None]
        return any(all(compare(number, bound) for compare, bound in bounds) for number in numbers)
    texts = [value for value in values if isinstance(value, str)]
    return any(text.startswith(wanted) if name == "prefix" else text.endswith(wanted) for text in texts)


def _same(wanted: Any, value: Any) -> bool:
    # True is no 1 in JSON.
    return bool(wanted == value) and isinstance(wanted, bool) == isinstance(value, bool)


def _number(value: Any) -> int | float | None:
    """A number, also one that is written as text, as amounts of money are."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        # As it is: an integer of 400 digits can be compared, and is no float.
        return value
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,18})?", value):
        return float(value)
    return None


def _check(rule: Any, where: str, depth: int) -> None:
    if depth > DEEPEST_FILTER:
        raise BadFilter(f"{where}: nested deeper than {DEEPEST_FILTER}")
    if not isinstance(rule, dict) or not rule:
        raise BadFilter(f'{where}: an object of fields, each with a list of values: {{"country": ["France"]}}')
    for name, wanted in rule.items():
        inside = f"{where}.{name}"
        if isinstance(wanted, dict):
            _check(wanted, inside, depth + 1)
        elif not isinstance(wanted, list) or not wanted:
            raise BadFilter(f'{inside}: a list of values, as ["France"] or [{{"prefix": "A"}}]')
        else:
            for one in wanted:
                _check_value(one, inside)


def _check_value(one: Any, where: str) -> None:
    if isinstance(one, _SCALARS):
        return
    if not isinstance(one, dict) or len(one) != 1:
        raise BadFilter(f"{where}: a value, or an object with one of prefix, suffix, anything-but, exists, numeric")
    [(name, wanted)] = one.items()
    fits = {
        "prefix": lambda: isinstance(wanted, str),
        "suffix": lambda: isinstance(wanted, str),
        "exists": lambda: isinstance(wanted, bool),
        "anything-but": lambda: _are_texts_or_numbers(wanted if isinstance(wanted, list) else [wanted]),
        "numeric": lambda: _is_range(wanted),
    }.get(name)
    if fits is None or not fits():
        raise BadFilter(
            f"{where}.{name}: prefix and suffix take a text, exists true or false, anything-but texts or numbers, at "
            'least one, numeric bounds as [">", 0, "<=", 5], ["<", 5] or ["=", 5], with a number between them'
        )


def _are_texts_or_numbers(others: list[Any]) -> bool:
    """Whether there are some, and all are texts or all are numbers."""
    return bool(others) and (all(isinstance(each, str) for each in others) or all(map(_is_number, others)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_range(bounds: Any) -> bool:
    """Whether it is a comparison, or a lower bound and then an upper one above it."""
    match bounds:
        case [str() as name, number]:
            return name in _COMPARE and _is_number(number)
        case [">" | ">=", low, "<" | "<=", high]:
            return _is_number(low) and _is_number(high) and bool(low < high)
    return False
