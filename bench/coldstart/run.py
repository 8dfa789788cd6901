"""What a function's cold start costs: importing the handler and handling a first record, in a fresh process.

Each handler of the app runs from its own bundle (made as synthesis makes it, for this machine) on the embedded AWS's
interpreter, which has boto3 and nothing of ours, and handles one real order against an embedded AWS of this benchmark's
own. The interpreter's start is taken off. Beside it stands the usual style (`usual_handler.py`), and what each part of
Powertools, and of boto3, costs on top of what a handler has anyway.

Bundles hold no bytecode and Lambda's file system is read-only, so that a function's own packages are compiled at every
cold start, while the runtime's boto3 has its bytecode. So it is here; the column "compiled" has bytecode for all.

    .venv/bin/python bench/coldstart/run.py [--rounds 7] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import boto3
import msgspec
import uv

from offload.operate.aws import shell_settings
from offload.operate.embedded import PROJECT
from offload.operate.embedded.process import EmbeddedAws
from offload.shop.orders import SHIPPED_DAY, read_orders
from stacks.bundling import Bundler, Target

PYTHON: Final = PROJECT / ".offload" / "embedded" / "bin" / "python"
_FUNCTIONS: Final = ("event_journal", "sales_ledger", "stock_levels")
# Runs in the fresh process: imports the handler named, gives it the event of argument 2, says the times on stderr.
_RUNNER: Final = """
import time
began = time.perf_counter()
import importlib, json, sys
name, _, attribute = sys.argv[1].rpartition(".")
handler = getattr(importlib.import_module(name), attribute)
imported = time.perf_counter()
class Context:
    aws_request_id = "bench"
    function_name = "bench"
    @staticmethod
    def get_remaining_time_in_millis():
        return 10000
answer = handler(json.loads(sys.argv[2]), Context())
handled = time.perf_counter()
assert answer == {"batchItemFailures": []}, answer
print(json.dumps([imported - began, handled - imported]), file=sys.stderr)
"""
# What boto3's runtime copy has compiled on Lambda.
_WARM: Final = """
import boto3
for service in ("dynamodb", "sqs", "s3", "events"):
    boto3.client(service)
boto3.resource("dynamodb")
boto3.client("dynamodb").list_tables()
"""
_CLIENT: Final = "import botocore.session; botocore.session.get_session().create_client('dynamodb')"
PARTS: Final[Mapping[str, Sequence[str]]] = {
    # part: (what is there anyway, what comes on top)
    "import botocore.session": ("pass", "import botocore.session"),
    "botocore client for DynamoDB": ("import botocore.session", _CLIENT),
    "boto3 client instead": (_CLIENT, "import boto3; boto3.client('dynamodb')"),
    "boto3 resource instead": (_CLIENT, "import boto3; boto3.resource('dynamodb').Table('t')"),
    "Powertools Logger, one line": (
        _CLIENT,
        f"{_CLIENT}; from aws_lambda_powertools import Logger; Logger(service='x').info('x')",
    ),
    "Powertools BatchProcessor": (
        _CLIENT,
        f"{_CLIENT}; from aws_lambda_powertools.utilities.batch import BatchProcessor, process_partial_response",
    ),
    "Powertools Idempotency (with boto3)": (
        _CLIENT,
        f"{_CLIENT}; import aws_lambda_powertools.utilities.idempotency",
    ),
    "Powertools Idempotency (over boto3)": (
        "import boto3; boto3.client('dynamodb')",
        "import boto3; boto3.client('dynamodb'); import aws_lambda_powertools.utilities.idempotency",
    ),
    "Powertools parser (pydantic)": (_CLIENT, f"{_CLIENT}; import aws_lambda_powertools.utilities.parser.models"),
    "msgspec": (_CLIENT, f"{_CLIENT}; import msgspec"),
}


@dataclass(frozen=True)
class Case:
    """One handler: its name, the folder of its bundle, Lambda's handler string, its own environment variables."""

    name: str
    bundle: Path
    handler: str
    variables: Mapping[str, str]


class Processes:
    """Starts fresh processes on the functions' interpreter."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = {**settings, "PATH": os.defpath, "HOME": str(folder), "AWS_LAMBDA_FUNCTION_NAME": "bench"}
        self._settings["POWERTOOLS_METRICS_DISABLED"] = "true"
        self._settings["PYTHONPYCACHEPREFIX"] = str(folder / "runtime")
        self.run(["-c", _WARM], write_bytecode=True)

    def compile_runtime(self, case: Case) -> None:
        """Leaves bytecode of the standard library and boto3 as far as the case needs them, and none of its bundle."""
        arguments = ["-c", _RUNNER, case.handler, a_record()]
        self.run(arguments, bundle=case.bundle, variables=case.variables, write_bytecode=True)
        shutil.rmtree(self._folder / "runtime" / case.bundle.relative_to("/"))

    def run(
        self,
        arguments: Sequence[str],
        *,
        bundle: Path | str | None = None,
        variables: Mapping[str, str] | None = None,
        write_bytecode: bool = False,
        compiled: bool = False,
    ) -> tuple[float, str]:
        """Runs one process; its seconds from start to end and its stderr."""
        environment = {**self._settings, **(variables or {})}
        if bundle is not None:
            environment["PYTHONPATH"] = str(bundle)
        if compiled:
            environment["PYTHONPYCACHEPREFIX"] = str(self._folder / "everything")
        elif not write_bytecode:
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        began = time.perf_counter()
        done = subprocess.run(
            [PYTHON, *arguments], env=environment, cwd=self._folder, capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - began
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)[:200]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return took, done.stderr


def a_record() -> str:
    """Lambda's event with one order, a real one of some twenty lines, under a number of its own."""
    invoices = read_orders(SHIPPED_DAY).invoices
    invoice = min(invoices, key=lambda each: abs(len(each.lines) - 20))
    event = msgspec.structs.replace(invoice, invoice=f"{invoice.invoice}-{uuid.uuid4().hex[:8]}").event()
    body = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "source": event.source,
        "detail-type": event.type,
        "account": "000000000000",
        "time": "2010-12-01T08:26:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": json.loads(event.to_json()),
    }
    record = {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "receipt",
        "body": json.dumps(body),
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1291191960000"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "awsRegion": "us-east-1",
    }
    return json.dumps({"Records": [record]})


def cases(folder: Path) -> list[Case]:
    """The app's handlers and the usual style, with tables in the embedded AWS."""
    marks, sums = _table("marks"), _table("sums")
    shelves, records = _table("shelves", sort_key=False), _table("records", key="id", sort_key=False)
    common = {
        "OFFLOAD_QUEUE_URL": "http://127.0.0.1/none",
        "OFFLOAD_DEAD_LETTER_QUEUE_URL": "http://127.0.0.1/none",
        "OFFLOAD_MARKS_TABLE": marks,
        "OFFLOAD_CLAIMS_BUCKET": "claims",
        "OFFLOAD_ATTEMPTS": "5",
    }
    own = {
        "sales_ledger": {"LEDGER_TABLE": sums},
        "stock_levels": {"STOCK_TABLE": shelves, "STOCK_OPENING_UNITS": "1000000", "STOCK_LOW_BELOW": "1"},
    }
    found = []
    for name in _FUNCTIONS:
        # A table of marks serves one consumer: their events are the same.
        variables = {**common, "OFFLOAD_MARKS_TABLE": _table("marks"), "OFFLOAD_CONSUMER": name, **own.get(name, {})}
        bundle = Bundler(PROJECT).bundle(name, Target.of("host", "host"))
        found.append(Case(name, bundle.path, bundle.handler, variables))
    usual = _usual_bundle(folder)
    variables = {"LEDGER_TABLE": sums, "RECORDS_TABLE": records}
    return [*found, Case("the usual style", usual, "usual_handler.handler", variables)]


def measure(rounds: int) -> dict[str, Any]:
    """Milliseconds over a bare interpreter of every case and part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embedded = EmbeddedAws(folder / "embedded", persist=False)
        try:
            settings = shell_settings(embedded.start())
            os.environ.update(settings)
            return _measure(folder, Processes(folder, settings), rounds)
        finally:
            embedded.stop()


def _measure(folder: Path, processes: Processes, rounds: int) -> dict[str, Any]:
    every = cases(folder)
    for case in every:
        processes.compile_runtime(case)
    bare = statistics.median(processes.run(["-c", "pass"])[0] for _ in range(rounds))
    results: dict[str, Any] = {"bare interpreter": _ms(bare), "handlers": {}, "parts": {}}
    for compiled in (False, True):
        times: dict[str, list[list[float]]] = {case.name: [] for case in every}
        for turn in range(rounds + 1):
            for case in every:
                _, said = processes.run(
                    ["-c", _RUNNER, case.handler, a_record()],
                    bundle=case.bundle,
                    variables=case.variables,
                    compiled=compiled,
                )
                if turn:
                    times[case.name].append(json.loads(said.splitlines()[-1]))
        for case in every:
            imported, first = (statistics.median(each) for each in zip(*times[case.name], strict=True))
            row = results["handlers"].setdefault(case.name, {})
            row["compiled" if compiled else "as on Lambda"] = {
                "import": _ms(imported),
                "first record": _ms(first),
                "together": _ms(imported + first),
            }
    for case in every:
        results["handlers"][case.name]["imports"] = costliest(processes, case)
    # Everything that a part may import: the usual style's packages, then ours.
    packages = f"{every[-1].bundle}{os.pathsep}{every[0].bundle}"
    for part, (base, top) in PARTS.items():
        pair: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for code, times_of in zip((base, top), pair, strict=True):
                times_of.append(processes.run(["-c", code], bundle=packages)[0])
        results["parts"][part] = _ms(statistics.median(pair[1]) - statistics.median(pair[0]))
    return results


def costliest(processes: Processes, case: Case) -> dict[str, float]:
    """Milliseconds of import by top-level package, the five that cost most, its own modules' time alone."""
    arguments = ["-X", "importtime", "-c", _RUNNER, case.handler, a_record()]
    _, said = processes.run(arguments, bundle=case.bundle, variables=case.variables)
    own: Counter[str] = Counter()
    for line in said.splitlines():
        if not line.startswith("import time:") or "self [us]" in line:
            continue
        microseconds, _, module = line.removeprefix("import time:").split("|")
        top = module.strip().partition(".")[0]
        own["the standard library" if top in sys.stdlib_module_names else top] += int(microseconds)
    return {package: round(micro / 1000, 1) for package, micro in own.most_common(5)}


def _usual_bundle(folder: Path) -> Path:
    """Powertools with its parser, pinned as the project pins them, and the handler; without bytecode, as ours."""
    bundle = folder / "usual"
    pins = [
        line.split(" ")[0]
        for line in (PROJECT / "requirements" / "dev.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith(("aws-lambda-powertools==", "pydantic==", "pydantic-core=="))
    ]
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", str(PYTHON), "--target", str(bundle), *pins]
    subprocess.run(command, check=True)
    shutil.copyfile(Path(__file__).with_name("usual_handler.py"), bundle / "usual_handler.py")
    # boto3 is the runtime's, on Lambda as here.
    for package in ("boto3", "botocore", "s3transfer"):
        shutil.rmtree(bundle / package, ignore_errors=True)
    return bundle


def _table(role: str, *, key: str = "pk", sort_key: bool = True) -> str:
    keys: list[Any] = [(key, "HASH"), *([("sk", "RANGE")] if sort_key else [])]
    name = f"{role}-{uuid.uuid4().hex[:8]}"
    boto3.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": each, "KeyType": kind} for each, kind in keys],
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each, _ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    return name


def _ms(seconds: float) -> int:
    return int((Decimal(str(seconds)) * 1000).to_integral_value())


def show(results: Mapping[str, Any]) -> None:
    """Prints the tables."""
    print(f"bare interpreter {results['bare interpreter']} ms; everything else is on top of it, in ms")
    print(f"{'handler':16} {'import':>7} {'record':>7} {'both':>6} | compiled: {'import':>6} {'record':>7} {'both':>6}")
    for name, row in results["handlers"].items():
        cold, warm = row["as on Lambda"], row["compiled"]
        print(
            f"{name:16} {cold['import']:7} {cold['first record']:7} {cold['together']:6} |"
            f"           {warm['import']:6} {warm['first record']:7} {warm['together']:6}"
        )
    for name, row in results["handlers"].items():
        print(f"{name}: imports by package: " + ", ".join(f"{top} {took} ms" for top, took in row["imports"].items()))
    print("on top of a botocore client for DynamoDB, unless said:")
    for part, took in results["parts"].items():
        print(f"  {took:+5} ms  {part}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        show(results)


if __name__ == "__main__":
    main()
