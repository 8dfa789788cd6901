"""Amounts of money as text."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

_PENNY: Final = Decimal("0.01")


def money(amount: Decimal) -> str:
    """An amount in pounds with its pence, and with more decimals only where it has them: `748957.02`."""
    pence = amount.quantize(_PENNY)
    return f"{(pence if pence == amount else amount.normalize()) + 0:f}"
