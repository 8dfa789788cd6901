"""The real orders of a whole month, for tests and benchmarks: not shipped, but beside the checkout in CI."""

from __future__ import annotations

from typing import Final

from offload.project import PROJECT

MONTH: Final = PROJECT.parent / "shared" / "data" / "online_retail" / "2010-12.csv.gz"
"""December 2010 of the UCI Online Retail set; whoever uses it does without where it is not."""
