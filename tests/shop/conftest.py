"""What the shop's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shop.month import MONTH


@pytest.fixture
def month() -> Path:
    """The real orders of December 2010; tests that need them skip where they are not beside the checkout."""
    if not MONTH.exists():
        pytest.skip("the month's orders are not beside this checkout")
    return MONTH
