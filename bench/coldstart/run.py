"""What a function's cold start costs: its bundle, importing the handler, a first event, each in a fresh process.

Every function of the app runs from its own bundle (made as synthesis makes it, for this machine) on the embedded AWS's
interpreter, which has boto3 and nothing of ours, and handles a first event against an embedded AWS of this benchmark's
own (`cases.py` has the events). The interpreter's start is taken off. Beside them stands the usual style: for the
receiver of webhooks `usual_receiver.py`, for all else `usual_handler.py`. With --parts it also says what each part of
Powertools, and of boto3, costs on top of what a handler has anyway.

The runtime's boto3 has its bytecode, here as on Lambda. Our bundles have theirs, being for the Python that makes them;
the usual style has none, as uv and sam leave it. Lambda's file system is read-only, so what has none is compiled at
every cold start. The last columns turn that round: ours as for another Python version, the usual style compiled.

Exits 1 when a goal is missed, and says which.

    .venv/bin/python bench/coldstart/run.py [--rounds 7] [--only FUNCTION]... [--parts] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.coldstart.cases import IN_THE_RUNTIME, PYTHON, Case, cases
from offload.cdk.bundling.bytecode import compile_modules
from offload.cli.deployment.aws import shell_settings
from offload.cli.local.process import EmbeddedAws

RATIO: Final = 1 / 2
"""The goal: a function's import takes at most so much of its usual peer's in the same run."""
RATIOS: Final = {"webhook_receiver": 1 / 4}
"""Whose goal is another."""
LARGEST_BUNDLE: Final = 8_000_000
"""Bytes, unzipped: no bundle is larger."""
MEDIAN_BUNDLE: Final = 3_000_000

# Runs in the fresh process: imports the handler named, gives it the event of argument 2 unless that is empty, says the
# times on stderr. Argument 3 is what the answer has at least.
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
    memory_limit_in_mb = 256
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:bench"
    @staticmethod
    def get_remaining_time_in_millis():
        return 20000
handled = imported
if sys.argv[2]:
    event, wanted = json.loads(sys.argv[2]), json.loads(sys.argv[3])
    handled_from = time.perf_counter()
    answer = handler(event, Context())
    handled = imported + time.perf_counter() - handled_from
    assert wanted is None or {key: answer[key] for key in wanted} == wanted, answer
print(json.dumps([imported - began, handled - imported]), file=sys.stderr)
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
_MISSING: Final = re.compile(r"MissingSetting: .* environment variable (\w+)( is not set)?")
_MOST_VARIABLES: Final = 20


class Processes:
    """Starts fresh processes on the functions' interpreter."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self._folder = folder
        self._settings = {**settings, "PATH": os.defpath, "HOME": str(folder), "AWS_LAMBDA_FUNCTION_NAME": "bench"}
        self._settings |= {"POWERTOOLS_METRICS_DISABLED": "true", "POWERTOOLS_TRACE_DISABLED": "true"}
        # boto3 as Lambda's runtime has it: outside of the bundle, with bytecode.
        self._runtime = folder / "runtime"
        self._runtime.mkdir()
        (installed,) = (PYTHON.parents[1] / "lib").glob("python*/site-packages")
        for package in IN_THE_RUNTIME:
            if (installed / package).is_dir():
                shutil.copytree(installed / package, self._runtime / package)
            else:
                shutil.copyfile(installed / package, self._runtime / package)
        modules = [path.relative_to(self._runtime).as_posix() for path in self._runtime.rglob("*.py")]
        compile_modules(self._runtime, modules)

    def with_settings(self, case: Case) -> Case:
        """The case, with something in every variable that its function asks for and no table gives."""
        for _ in range(_MOST_VARIABLES):
            try:
                self.handle(replace(case, event=None))
            except RuntimeError as error:
                if (missing := _MISSING.search(str(error))) is None:
                    raise
                value = "bench" if missing[2] else "1"
                case = replace(case, variables={**case.variables, missing[1]: value})
            else:
                return case
        raise RuntimeError(f"{case.name} asks for more than {_MOST_VARIABLES} variables: name them in cases.py")

    def handle(self, case: Case, *, other: bool = False) -> tuple[float, float]:
        """Seconds of importing the case's handler, and of its first event."""
        _, said = self.run(_arguments(case), bundle=case.other if other else case.bundle, variables=case.variables)
        imported, first = json.loads(said.splitlines()[-1])
        return imported, first

    def run(
        self,
        arguments: Sequence[str],
        *,
        bundle: Path | str | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> tuple[float, str]:
        """Runs one process; its seconds from start to end and its stderr."""
        path = str(self._runtime) if bundle is None else f"{bundle}{os.pathsep}{self._runtime}"
        environment = {**self._settings, **(variables or {}), "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        began = time.perf_counter()
        done = subprocess.run(
            [PYTHON, *arguments], env=environment, cwd=self._folder, capture_output=True, text=True, check=False
        )
        took = time.perf_counter() - began
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)[-200:]} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return took, done.stderr


@dataclass(frozen=True)
class Figures:
    """One case, in milliseconds over a bare interpreter; `first` is None where no event can be given."""

    name: str
    peer: str | None
    size: int
    imported: float
    first: float | None
    ratio: float | None
    other_imported: float
    other_first: float | None
    other_ratio: float | None
    costliest: Mapping[str, int]


def measure(rounds: int, only: Sequence[str], *, parts: bool) -> tuple[float, list[Figures], dict[str, float]]:
    """The bare interpreter's milliseconds, every case, and the parts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embedded = EmbeddedAws(folder / "embedded", persist=False)
        try:
            settings = shell_settings(embedded.start())
            os.environ.update(settings)
            processes = Processes(folder, settings)
            every = cases(folder)
            chosen = [processes.with_settings(case) for case in every if not only or case.name in only or not case.peer]
            bare = _ms(processes.run(["-c", "pass"])[0] for _ in range(rounds))
            # Everything that a part may import: the usual style's packages, then ours.
            packages = os.pathsep.join(str(case.bundle) for case in reversed(every))
            return bare, _measure(processes, chosen, rounds), _parts(processes, packages, rounds) if parts else {}
        finally:
            embedded.stop()


def _measure(processes: Processes, every: Sequence[Case], rounds: int) -> list[Figures]:
    times: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for turn in range(rounds + 1):
        for case in every:
            for other in (False, True):
                pair = processes.handle(case, other=other)
                if turn:
                    times.setdefault((case.name, other), []).append(pair)
    imports = {key: _ms(pair[0] for pair in pairs) for key, pairs in times.items()}
    firsts = {key: _ms(pair[1] for pair in pairs) for key, pairs in times.items()}
    return [
        Figures(
            name=case.name,
            peer=case.peer,
            size=case.size,
            imported=imports[case.name, False],
            first=firsts[case.name, False] if case.event else None,
            ratio=imports[case.name, False] / imports[case.peer, False] if case.peer else None,
            other_imported=imports[case.name, True],
            other_first=firsts[case.name, True] if case.event else None,
            # Neither with bytecode.
            other_ratio=imports[case.name, True] / imports[case.peer, False] if case.peer else None,
            costliest=costliest(processes, case),
        )
        for case in every
    ]


def _parts(processes: Processes, packages: str, rounds: int) -> dict[str, float]:
    found = {}
    for part, (base, top) in PARTS.items():
        pair: tuple[list[float], list[float]] = ([], [])
        for _ in range(rounds):
            for code, times_of in zip((base, top), pair, strict=True):
                times_of.append(processes.run(["-c", code], bundle=packages)[0])
        found[part] = _ms(pair[1]) - _ms(pair[0])
    return found


def costliest(processes: Processes, case: Case) -> dict[str, int]:
    """Microseconds of import by top-level package, the five that cost most, its own modules' time alone.

    Of three runs the shortest.
    """
    runs = [_by_package(processes, case) for _ in range(3)]
    return dict(min(runs, key=Counter.total).most_common(5))


def _by_package(processes: Processes, case: Case) -> Counter[str]:
    arguments = ["-X", "importtime", *_arguments(replace(case, event=None))]
    _, said = processes.run(arguments, bundle=case.bundle, variables=case.variables)
    own: Counter[str] = Counter()
    for line in said.splitlines():
        if not line.startswith("import time:") or "self [us]" in line:
            continue
        microseconds, _, module = line.removeprefix("import time:").split("|")
        top = module.strip().partition(".")[0]
        own["the standard library" if top in sys.stdlib_module_names else top] += int(microseconds)
    return own


def missed(figures: Sequence[Figures]) -> list[str]:
    """The goals that are missed, a sentence each."""
    ours = [each for each in figures if each.ratio is not None]
    found = []
    for each in ours:
        goal = RATIOS.get(each.name, RATIO)
        if each.ratio is not None and each.ratio > goal:
            found.append(f"{each.name}: its import takes {each.ratio:.2f} of {each.peer}'s, the goal is {goal:.2f}")
        if each.size > LARGEST_BUNDLE:
            found.append(f"{each.name}: its bundle has {each.size / 1e6:.1f} MB, the goal is {LARGEST_BUNDLE / 1e6:g}")
    if (median := statistics.median(each.size for each in ours)) > MEDIAN_BUNDLE:
        found.append(f"the median bundle has {median / 1e6:.1f} MB, the goal is {MEDIAN_BUNDLE / 1e6:g}")
    return found


def _arguments(case: Case) -> list[str]:
    event = json.dumps(case.event()) if case.event else ""
    return ["-c", _RUNNER, case.handler, event, json.dumps(case.answer)]


def _ms(seconds: Iterable[float]) -> float:
    return statistics.median(seconds) * 1000


def show(bare: float, figures: Sequence[Figures], parts: Mapping[str, float]) -> None:
    """Prints the tables."""
    print(f"bare interpreter {bare:.0f} ms, load {os.getloadavg()[0]:.1f}; everything else is on top of it, in ms")
    heads = ("function", "bundle MB", "import", "first", "both", "of usual", "other:", "first", "both", "of usual")
    print(f"{heads[0]:18}" + "".join(f"{head:>10}" for head in heads[1:]))
    for each in figures:
        cells = [f"{each.size / 1e6:.2f}", *_cells(each.imported, each.first, each.ratio)]
        cells += _cells(each.other_imported, each.other_first, each.other_ratio)
        print(f"{each.name:18}" + "".join(f"{cell:>10}" for cell in cells))
    ours = [each for each in figures if each.peer]
    print(f"median of {len(ours)} bundles {statistics.median(each.size for each in ours) / 1e6:.2f} MB")
    for each in figures:
        top = ", ".join(f"{package} {took / 1000:.0f}" for package, took in each.costliest.items())
        print(f"{each.name}: import by package, ms: {top}")
    if parts:
        print("on top of a botocore client for DynamoDB, unless said:")
    for part, took in parts.items():
        print(f"  {took:+5.0f} ms  {part}")


def _cells(imported: float, first: float | None, ratio: float | None) -> list[str]:
    both = ["", ""] if first is None else [f"{first:.0f}", f"{imported + first:.0f}"]
    return [f"{imported:.0f}", *both, "" if ratio is None else f"{ratio:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", action="append", default=[], metavar="FUNCTION")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bare, figures, parts = measure(arguments.rounds, arguments.only, parts=arguments.parts)
    goals = missed(figures)
    if arguments.json:
        rows = {each.name: {name: getattr(each, name) for name in Figures.__dataclass_fields__} for each in figures}
        print(json.dumps({"bare": bare, "functions": rows, "parts": parts, "missed": goals}, indent=1))
    else:
        show(bare, figures, parts)
    for goal in goals:
        print(f"missed: {goal}", file=sys.stderr)
    sys.exit(1 if goals else 0)


if __name__ == "__main__":
    main()
