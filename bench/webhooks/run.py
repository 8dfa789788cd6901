"""Webhooks in and out: every benchmark of this folder, one after the other.

    .venv/bin/python bench/webhooks/run.py

`receiving.py`, `sending.py` and `isolation.py` say what each measures, and take options of their own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> None:
    """Runs them; leaves with 1 when one of them missed its goal."""
    folder = Path(__file__).parent
    missed = False
    for name in ("receiving.py", "sending.py", "isolation.py"):
        print(f"bench/webhooks/{name}", flush=True)
        missed |= subprocess.run([sys.executable, str(folder / name)], check=False).returncode != 0
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
