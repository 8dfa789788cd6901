"""What the shop relies on of AWS is among the behaviours that are tried (tests/conformance)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pytest

from offload.project import PROJECT
from tests.conformance.table import every

RELIED: Final[Mapping[str, tuple[str, ...]]] = {
    "lambdas/release_notes/log.py": ("dynamodb-transaction_cancelled", "s3-put_once"),
    "shop/commands/change_log.py": ("s3-listing_pages",),
    "shop/ledger.py": ("dynamodb-numbers",),
    "shop/rates.py": ("dynamodb-query_pages",),
    "shop/uploads.py": ("s3-presigned_put",),
}


@pytest.mark.parametrize("path", RELIED)
def test_what_a_file_of_the_shop_relies_on_is_tried(path: str) -> None:
    assert (PROJECT / path).is_file()
    assert set(RELIED[path]) <= {behaviour.id for behaviour in every()}
