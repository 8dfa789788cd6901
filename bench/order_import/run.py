"""How much memory an import takes, by the file's rows: the peak of a process that imports one file and nothing else.

The code is that of `lambdas/order_import`, with the durable SDK imported and a run that does the steps at once; the
files and the bus are an embedded AWS of the benchmark's own, in another process. Files are December's orders
(tests/shop/month.py), or the day that is shipped, over and over under new invoice numbers, cut to 10, 100 and 541,909
rows (the set's whole year), plain and gzip.

    .venv/bin/python bench/order_import/run.py
    .venv/bin/python bench/order_import/run.py --rows 10 100000 --json
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any, Final, TypeVar

import boto3
import msgspec

from offload.cli.deployment.aws import shell_settings
from offload.cli.local.process import EmbeddedAws
from shop.orders import SHIPPED_DAY
from tests.shop.month import MONTH

GOAL_MIB: Final = 8
"""Growth of the peak from the smallest to the largest file."""
YEAR: Final = 541_909
# Beyond the span of a month's numbers, so that no copy's invoice is another's.
APART: Final = 10_000

T = TypeVar("T", bound=msgspec.Struct)


class Run:
    """A durable run that is never interrupted; results go through JSON, as they would."""

    traceparent: str | None = None

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket
        self._folder = f"results/{uuid.uuid4().hex}/1/"
        self.steps = 0
        self.open_seconds = 0.0

    def folder(self) -> str:
        """Where its files go."""
        return self._folder

    def step(self, name: str, work: Callable[[], T], result: type[T]) -> T:
        """Does the work."""
        self.steps += 1
        began = time.perf_counter()
        content = msgspec.json.encode(work())
        if name == "open":
            self.open_seconds = time.perf_counter() - began
        return msgspec.json.decode(content, type=result)

    def rest(self, name: str) -> None:
        """Goes on at once: what is left in memory after one chunk is still there after a hundred."""

    def progress(self, done: int, total: int | None = None, message: str = "") -> None:
        """Says nothing."""


def import_one(bucket: str, key: str) -> dict[str, Any]:
    """Imports a file in this process; its peak, before and after, and what came of it."""
    importlib.import_module("offload.runtime.jobs.durable")
    from lambdas.order_import.importing import OrderImport, OrderImportSettings
    from shop.contracts.jobs.order_import import OrdersFile

    before = peak_mib()
    run = Run(bucket)
    places = OrderImportSettings(offload_bus="orders", offload_claims_bucket=bucket)
    began = time.perf_counter()
    imported = OrderImport(OrdersFile(file=key), run, places).result()
    return {
        "imported_mib": before,
        "peak_mib": peak_mib(),
        "seconds": time.perf_counter() - began,
        "open_seconds": run.open_seconds,
        "steps": run.steps,
        **msgspec.structs.asdict(imported),
    }


def peak_mib() -> float:
    """The process's largest resident size so far, its program's alone (ru_maxrss has its parent's in it)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) / 1024


def rows() -> Iterator[list[str]]:
    """Real rows without an end."""
    source = MONTH if MONTH.exists() else SHIPPED_DAY
    with gzip.open(source, "rt", encoding="utf-8", newline="") as file:
        header, *month = csv.reader(file)
    yield header
    for copy in count():
        for invoice, *rest in month:
            kind = "C" if invoice.startswith("C") else invoice[:1] if invoice[:1].isalpha() else ""
            yield [f"{kind}{int(invoice.removeprefix(kind)) + copy * APART}", *rest]


def write(folder: Path, number: int) -> Path:
    path = folder / f"{number}.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(islice(rows(), number + 1))
    return path


def measured(bucket: str, key: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--import", bucket, key]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10, 100, YEAR])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--import", nargs=2, dest="place", metavar=("BUCKET", "KEY"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.place:
        print(json.dumps(import_one(*given.place)))
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        embedded = EmbeddedAws(Path(folder) / "aws", persist=False)
        try:
            os.environ.update(shell_settings(embedded.start()))
            s3, bucket = boto3.client("s3"), "order-import"
            s3.create_bucket(Bucket=bucket)
            boto3.client("events").create_event_bus(Name="orders")
            for number in given.rows:
                path = write(Path(folder), number)
                packed = io.BytesIO()
                with path.open("rb") as plain, gzip.GzipFile(fileobj=packed, mode="wb") as file:
                    file.writelines(plain)
                for kind, body in (("plain", path.read_bytes()), ("gzip", packed.getvalue())):
                    key = f"uploads/{number}-{kind}"
                    s3.put_object(Bucket=bucket, Key=key, Body=body)
                    results.append({"file": kind, "mb": len(body) / 1e6, **measured(bucket, key)})
        finally:
            embedded.stop()
    if given.json:
        print(json.dumps(results, indent=2))
        return
    print(
        f"{'rows':>9} {'file':>6} {'MB':>6} {'invoices':>9} {'steps':>6} {'imports MiB':>12} "
        f"{'peak MiB':>9} {'s':>7} {'open s':>7}"
    )
    for each in results:
        print(
            f"{each['rows']:9,} {each['file']:>6} {each['mb']:6.1f} {each['published']:9,} {each['steps']:6} "
            f"{each['imported_mib']:12.1f} {each['peak_mib']:9.1f} {each['seconds']:7.1f} {each['open_seconds']:7.2f}"
        )
    for kind in ("plain", "gzip"):
        peaks = [each["peak_mib"] for each in results if each["file"] == kind]
        print(f"{kind}: growth {peaks[-1] - peaks[0]:.1f} MiB (goal: below {GOAL_MIB})")


if __name__ == "__main__":
    main()
