"""What the proof at scale publishes, and that its poison is poison."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from offload.contracts.events.event import BrokenContract, Envelope, Event
from shop.contracts.orders import OrderPlaced
from tests.shop.scale.plan import Plan
from tests.shop.scale.poison import KINDS, MISSING_CLAIM, Poison, mark_of, number_in, poison

PLAN = Plan(seed=3, orders=250, leg=100, poison_every=10)


@pytest.mark.parametrize("number", range(len(KINDS)), ids=KINDS)
def test_each_kind_of_poison_is_outside_the_contract_and_can_be_found_again(number: int) -> None:
    made = poison(number, next(PLAN.invoices(0)), "a-bucket")
    assert number_in(made.detail) == number
    if made.kind == MISSING_CLAIM:
        assert msgspec.json.decode(made.detail, type=Envelope).dataref
        return
    with pytest.raises((msgspec.DecodeError, BrokenContract)):
        msgspec.json.decode(made.detail, type=Envelope).event({OrderPlaced.TYPE: OrderPlaced})


def test_a_mark_names_one_poison_event() -> None:
    assert number_in(f'{{"subject": "{mark_of(12)}"}}') == 12
    assert number_in('{"subject": "536365"}') is None


def test_every_order_is_published_and_a_tenth_of_them_twice_whatever_the_legs() -> None:
    legs = [PLAN.publications(number, "a-bucket") for number in range(PLAN.legs)]
    published = Counter(each.id for leg in legs for each in leg if isinstance(each, Event))
    assert set(published) == {invoice.event().id for invoice in PLAN.all_invoices()}
    assert len(published) == 250
    assert Counter(published.values()) == {1: 250 - PLAN.repeats(), 2: PLAN.repeats()}
    assert PLAN.repeats() == 24  # of 50, two halves of 2.5 are two
    across = {each.id for each in legs[0] if isinstance(each, Event)} & {
        each.id for each in legs[1] if isinstance(each, Event)
    }
    assert len(across) == 5
    assert sorted(each.number for leg in legs for each in leg if isinstance(each, Poison)) == [*PLAN.all_poison()]
    assert len(PLAN.all_poison()) == 25


def test_a_leg_is_the_same_whenever_it_is_made() -> None:
    assert PLAN.publications(1, "a-bucket") == PLAN.publications(1, "a-bucket")
    assert PLAN.publications(1, "a-bucket") != PLAN.publications(2, "a-bucket")
