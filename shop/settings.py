"""What differs between the shop's environments: `[app.*]` of their files."""

from __future__ import annotations

from typing import Annotated

import msgspec


class Stock(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[app.stock]`: what a product has before its first order, and below how many units it is low."""

    opening_units: Annotated[int, msgspec.Meta(ge=0)]
    low_below: Annotated[int, msgspec.Meta(ge=0)]
