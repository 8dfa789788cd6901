"""What narrows a subscription: patterns of event types, and a filter on the fields of the data.

The filter is written as EventBridge's event patterns are (eb-create-pattern-operators.html, read 2026-11-27), of which
it takes exact values, `prefix`, `suffix`, `anything-but`, `exists` and `numeric`: all named fields must match, each by
any of its values. A field that is a list matches when one of its elements does.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
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
    """Whether one of the patterns is this type, or a prefix of it: `order.*` takes `order.placed`."""
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
    return all(_field(rule, name in data, data.get(name)) for name, rule in wanted.items())


def _field(rule: Any, there: bool, value: Any) -> bool:
    if isinstance(rule, dict):
        values = value if isinstance(value, list) else [value]
        return any(matches(rule, each) for each in values)
    values = value if isinstance(value, list) else [value]
    return any(_value(each, there, values) for each in rule)


def _value(one: Any, there: bool, values: list[Any]) -> bool:
    if not isinstance(one, dict):
        return there and any(_same(one, value) for value in values)
    [(name, wanted)] = one.items()
    if name == "exists":
        return bool(there == wanted)
    if not there:
        return False
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
        "anything-but": lambda: all(
            isinstance(each, _SCALARS) for each in (wanted if isinstance(wanted, list) else [wanted])
        ),
        "numeric": lambda: _is_range(wanted),
    }.get(name)
    if fits is None or not fits():
        raise BadFilter(
            f"{where}.{name}: prefix and suffix take a text, exists true or false, anything-but values, "
            'numeric bounds as [">", 0, "<=", 5]'
        )


def _is_range(bounds: Any) -> bool:
    return (
        isinstance(bounds, list)
        and len(bounds) in (2, 4)
        and all(isinstance(name, str) and name in _COMPARE for name in bounds[::2])
        and all(isinstance(number, int | float) and not isinstance(number, bool) for number in bounds[1::2])
    )
