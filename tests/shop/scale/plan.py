"""What is published: legs of good orders, repeated and shuffled, with poison among them; all of it from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from offload.contracts.events.event import Event
from shop.contracts.orders import Invoice
from shop.orders import generate
from tests.shop.scale.poison import Poison, poison

REPEATED: Final = 0.1
"""The share of a leg's events that is published twice: half of them soon, half of them with the next leg."""
POISON_EVERY: Final = 1_000
"""Events for one poison event."""

Publication: TypeAlias = Event[Invoice] | Poison


@dataclass(frozen=True)
class Plan:
    """`orders` events in legs of at most `leg`; the same seed makes the same publications in the same order."""

    seed: int
    orders: int
    leg: int
    poison_every: int = POISON_EVERY

    @property
    def legs(self) -> int:
        """How many legs there are."""
        return -(-self.orders // self.leg)

    def invoices(self, number: int) -> Iterator[Invoice]:
        """The good invoices of a leg, in the order in which they were made."""
        return generate(self.seed + number, min(self.leg, self.orders - number * self.leg))

    def all_invoices(self) -> Iterator[Invoice]:
        """The good invoices of every leg."""
        for number in range(self.legs):
            yield from self.invoices(number)

    def all_poison(self) -> range:
        """The numbers of the poison events of every leg."""
        return range(self._poison_before(self.legs))

    def publications(self, number: int, claims_bucket: str) -> list[Publication]:
        """A leg's events in the order in which they are published. `claims_bucket` is the environment's."""
        chance = random.Random(f"{self.seed}-{number}")
        invoices = list(self.invoices(number))
        publications: list[Publication] = [invoice.event() for invoice in invoices]
        soon, later = self._repeats(number, len(invoices))
        publications += [invoices[place].event() for place in soon]
        if number > 0:
            before = list(self.invoices(number - 1))
            _, owed = self._repeats(number - 1, len(before))
            publications += [before[place].event() for place in owed]
        if number == self.legs - 1:
            publications += [invoices[place].event() for place in later]
        numbers = range(self._poison_before(number), self._poison_before(number + 1))
        publications += [poison(each, invoices[each % len(invoices)], claims_bucket) for each in numbers]
        chance.shuffle(publications)
        return publications

    def repeats(self) -> int:
        """How many publications are repeats, in every leg."""
        return sum(2 * self._half(min(self.leg, self.orders - number * self.leg)) for number in range(self.legs))

    def _repeats(self, number: int, count: int) -> tuple[list[int], list[int]]:
        chosen = random.Random(f"{self.seed}-{number}-repeats").sample(range(count), 2 * self._half(count))
        return chosen[: len(chosen) // 2], chosen[len(chosen) // 2 :]

    def _half(self, count: int) -> int:
        return round(REPEATED * count / 2)

    def _poison_before(self, number: int) -> int:
        return min(number * self.leg, self.orders) // self.poison_every
