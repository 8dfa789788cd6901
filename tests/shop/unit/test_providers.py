"""Who may send the shop webhooks: each of its own providers has a vector, and nothing but what it signs is taken."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Final

import pytest

from offload.contracts.webhooks_in import providers
from offload.contracts.webhooks_in.scheme import Provider
from offload.runtime.webhooks_in.refusals import BadSignature
from shop.contracts.warehouse import WAREHOUSE
from shop.providers import PROVIDERS
from tests.webhook_mutations import Case, outcomes_of_mutations

# Made by `openssl dgst -sha256 -hmac parcels`.
WAREHOUSE_CASE: Final = Case(
    WAREHOUSE,
    "parcels",
    (
        ("X-Warehouse-Signature", "sha256=0c28560811fd038ff3802dcdc48720076a5192829292b9a8a5261fa328f4292c"),
        ("X-Warehouse-Timestamp", "1700000000"),
        ("X-Warehouse-Delivery", "delivery-1"),
    ),
    b'{"type":"parcel.sent","parcel":"P-1"}',
)
CASES: Final = {"warehouse": WAREHOUSE_CASE}
every_case: Final = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def test_every_provider_that_the_framework_does_not_know_has_a_vector() -> None:
    known = {each.name for each in vars(providers).values() if isinstance(each, Provider)}
    assert {"github", "stripe"} <= known
    assert set(PROVIDERS) - known == {case.provider.name for case in CASES.values()}


@every_case
def test_every_vector_is_verified(case: Case) -> None:
    verified = case.verify()
    assert verified.provider == case.provider.name
    assert verified.key_id == "key-0"
    assert verified.body_sha256 == hashlib.sha256(case.body).hexdigest()


def test_the_warehouse_s_delivery_is_in_a_header_and_its_type_in_the_body() -> None:
    found = WAREHOUSE_CASE.verify()
    assert (found.delivery_id, found.delivery_id_signed) == ("delivery-1", False)
    assert (found.event_type, found.event_type_signed) == ("parcel.sent", True)


@every_case
def test_header_names_are_taken_in_every_case(case: Case) -> None:
    for change in (str.lower, str.upper, str.title, str.swapcase):
        headers = tuple((change(name), f" \t{value} ") for name, value in case.headers)
        assert replace(case, headers=headers).verify() == case.verify()


@every_case
def test_every_active_secret_is_tried_and_the_one_that_signed_is_named(case: Case) -> None:
    wrong = "whsec_" + base64.b64encode(b"x" * 24).decode()
    assert case.verify(*[wrong if "whsec" in case.secret else "another"] * 2).key_id == "key-2"


@every_case
def test_another_body_or_another_secret_is_not_taken(case: Case) -> None:
    for other in (replace(case, body=case.body + b" "), replace(case, secret=case.secret + "x")):
        with pytest.raises(BadSignature):
            other.verify()


@every_case
def test_no_mutation_of_a_signed_request_is_taken(case: Case) -> None:
    outcomes = outcomes_of_mutations(case, 1_200)
    assert sum(outcomes.values()) == 1_200
    assert not outcomes["tells"]
    # The proof is one of refusals: what is still taken are changes of what nobody signs.
    assert outcomes["bad-signature"] > 120
    assert outcomes["malformed-signature"] > 24
    assert outcomes["verified"] < 600
