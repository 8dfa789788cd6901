"""How many cases a fuzzer tries, in which shards, and how a case that fails is told.

`make test` tries a fraction in one shard; `OFFLOAD_PROVE=whole` all, in shards that `pytest -n` divides among its
workers. `OFFLOAD_FUZZ_SEED` takes another seed than the committed one, `OFFLOAD_FUZZ_CASES` another number of cases.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import pytest

WHOLE: Final = os.environ.get("OFFLOAD_PROVE") == "whole"
SEED: Final = os.environ.get("OFFLOAD_FUZZ_SEED", "20261129")
CASES: Final = 100_000
_WANTED: Final = os.environ.get("OFFLOAD_FUZZ_CASES")


@dataclass(frozen=True)
class Shard:
    """So many cases of one seed; each is the same wherever and with whichever others it runs."""

    number: int
    cases: int

    def chance(self) -> random.Random:
        """What all of its cases are made of."""
        return random.Random(f"{SEED}-{self.number}")

    @contextmanager
    def case(self, number: int, what: object) -> Iterator[None]:
        """Tells of whatever fails within it which case it was, and `what` it held."""
        try:
            yield
        except BaseException as error:
            error.add_note(f"case {number} of shard {self.number}, seed {SEED}: {repr(what)[:2000]}")
            raise


def shards(fraction: int, *, cases: int = CASES, of: int = 10) -> pytest.MarkDecorator:
    """Parametrizes a test with its `shard`: one of `fraction` cases, or as many as make `cases` in all."""
    if not WHOLE and _WANTED is None:
        made = [Shard(0, fraction)]
    else:
        total = int(_WANTED or cases)
        made = [Shard(number, total // of + (number < total % of)) for number in range(of)]
    return pytest.mark.parametrize("shard", made, ids=[f"shard{each.number}" for each in made])
