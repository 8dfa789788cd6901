"""The bills of environments: their templates, and a bill for people."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from offload.cli.costs.bill import Bill, Template
from offload.cli.deployment.failure import Failure
from offload.project import PROJECT

_SYNTHESIZED_WITHIN: Final = 900.0  # seconds; seen 10, and over 300 on a machine that was busy otherwise
_CENT: Final = 0.005


def environments(project: Path = PROJECT) -> tuple[str, ...]:
    """The environments that are deployed to AWS."""
    return tuple(sorted({file.stem for file in (project / "environments").glob("*.toml")} - {"local"}))


def synthesized(names: Iterable[str], project: Path = PROJECT) -> dict[str, dict[str, Template]]:
    """The templates of environments, by stack. Raises Failure with what the synthesis says."""
    # Node is beside this Python (`make toolchain`).
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    try:
        run = subprocess.run(
            [sys.executable, "-m", "offload.cdk.templates", *names],
            cwd=project,
            env={**os.environ, "PATH": path, "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"},
            capture_output=True,
            text=True,
            timeout=_SYNTHESIZED_WITHIN,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(f"the templates were not synthesized after {_SYNTHESIZED_WITHIN:.0f} s") from error
    if run.returncode:
        raise Failure(run.stderr.strip().splitlines()[-1] if run.stderr.strip() else "the synthesis failed")
    found: dict[str, dict[str, Template]] = json.loads(run.stdout)
    return found


def show(of: Bill, write: Callable[[Any], object]) -> None:
    """Prints a bill's parts with their reasons, the constructs that cost a cent, and the sums."""
    write(f"{of.environment}: a month in which nothing arrives, in dollars (us-east-1)")
    write(f"{'':24}{'list price':>12}{'after free':>12}")
    for part in of.parts:
        amount = f"{part.amount:,.0f}" if part.amount >= 1 else f"{part.amount:.2f}"
        write(f"{part.meter.name:24}{part.listed:12.2f}{part.to_pay:12.2f}  {amount} {part.meter.unit}")
        for reason in part.reasons:
            write(f"{'':50}{reason}")
    write(f"{'in all':24}{of.listed:12.2f}{of.to_pay:12.2f}")
    write("")
    write(f"{'by construct':24}{'list price':>12}")
    for construct, dollars in of.constructs:
        if dollars >= _CENT:
            write(f"{construct:24}{dollars:12.2f}")
