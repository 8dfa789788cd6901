"""Values that a contract lets somebody write, at its edges and beyond: what fuzzers put into places of a document."""

from __future__ import annotations

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

_EMOJI: Final = "\U0001f600"
TEXTS: Final = (
    "", " ", "\x00", "\x1b[31m", "\x9b0m", "\u202e", "a\nb", "a\r\nb", "a" * 256, "a" * 257, "a" * 5_000, "a" * 200_000,
    _EMOJI, _EMOJI * 64, _EMOJI * 256, _EMOJI * 60_000, "\ud83d", "x\udc00y", "é" * 200, "e\u0301", "#", "%", "a#b",
    "%23", "..", "/", "'; --", "${x}", "{}", "null", "None", "true", "0", "-0", "NaN", "sNaN", "Infinity",
    "1e1000000", "1e-1000000", "0e1000000", "-1e999999", "9" * 400, "0." + "1" * 400, "1_000", "٣", "1,5", "+1",
    "0x10", " 1", "1 ",
    "2010-12-01T08:26:00Z", "2010-12-01T08:26:00", "2010-12-01", "0001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00",
    "1899-12-31T23:59:59Z", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:59.999999Z", "2016-12-31T23:59:60Z",
    "2010-02-30T00:00:00Z", "2010-12-01T24:00:00Z", "2010-12-01T08:26:00+25:00", "visit.ended", "offload.clinic",
)  # fmt: skip
NUMBERS: Final = (
    0, -0.0, 1, -1, 0.1, 1e-320, 5e-324, 1e308, -1e308, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63) - 1,
    10**38, 10**125, 10**126, 10**400, -(10**400), 1.0000000000000002, 12345678901234567890.123,
)  # fmt: skip
OTHERS: Final[tuple[Any, ...]] = (None, True, False, [], {}, [[]], [None], {"": None}, [1] * 200, [{}] * 50)


def value(chance: random.Random) -> Any:
    """Any of them, sometimes within others."""
    match chance.randrange(10):
        case 0 | 1 | 2 | 3:
            return chance.choice(TEXTS)
        case 4 | 5 | 6:
            return chance.choice(NUMBERS)
        case 7 | 8:
            return deepcopy(chance.choice(OTHERS))
    deep: Any = value(chance) if chance.random() < 0.5 else 0
    for _ in range(chance.choice((1, 3, 60, 300))):
        deep = [deep] if chance.random() < 0.5 else {chance.choice(("a", "", "\ud800", "id")): deep}
    return deep


def changed(document: Any, chance: random.Random, most: int = 3) -> Any:
    """The document with one to `most` of its places changed, taken away, doubled or added."""
    for _ in range(chance.randint(1, most)):
        places = list(_places(document))
        if not places:
            return value(chance)
        holder, place = chance.choice(places)
        match chance.randrange(12):
            case 0 if isinstance(holder, dict):
                del holder[place]
            case 1 if isinstance(holder, dict):
                holder[chance.choice(TEXTS[:30])] = value(chance)
            case 2 if isinstance(holder, list):
                # The same one: of what is very deep, no copy can be made.
                holder.extend([holder[place]] * chance.choice((1, 3, 400)))
            case 3 if isinstance(holder, list):
                del holder[place]
            case _:
                holder[place] = value(chance)
    return document


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a document: what holds it, and its key there. Not those within what is very deep."""
    waiting = [(document, 0)]
    while waiting:
        holder, depth = waiting.pop()
        if depth > 20:
            continue
        if isinstance(holder, dict):
            yield from ((holder, key) for key in holder)
            waiting += [(child, depth + 1) for child in holder.values()]
        elif isinstance(holder, list):
            yield from ((holder, at) for at in range(len(holder)))
            waiting += [(child, depth + 1) for child in holder[:50]]
