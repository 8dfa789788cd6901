"""How long an unchanged `make synth ENV=dev` takes, against `cdk synth` of an app of one empty stack.

Both use the project's own toolchain: the same Python, Node, CDK library and command line. The bundles are there and
nothing has changed. The two take turns; medians are compared. With `--explain` the time of the app's own process is
split into its parts, in a process of its own for each round.

    .venv/bin/python bench/synth/run.py [--rounds 7] [--explain] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from offload.project import PROJECT

GOAL: Final = 1.8
_EMPTY: Final = """
from aws_cdk import App, Stack

app = App()
Stack(app, "empty")
app.synth()
"""
# Times the parts of `offload.cdk.run(compose)`; the context is what the command line hands over.
_EXPLAINED: Final = """
import json, sys, time
began = time.perf_counter()
marks = {}
def mark(name):
    global began
    now = time.perf_counter()
    marks[name] = now - began
    began = now
import aws_cdk
mark("import aws_cdk, start of jsii's Node")
import app as ours
mark("import app.py: the stacks, the AWS modules they use, cdk-nag")
from offload.cdk import Environment, guard
from offload.cdk.guardrails import synthesize
application = aws_cdk.App()
guard(application)
mark("App() and the validation plugins")
environment = Environment.load("dev")
ours.compose(application, environment)
mark("the constructs, bundles looked up")
synthesize(application)
mark("synthesis and validation")
json.dump(marks, sys.stdout)
"""


def measure(rounds: int) -> dict[str, Any]:
    """Seconds of both, by round, after one round that is not counted."""
    environment = os.environ | {"CDK_DISABLE_CLI_TELEMETRY": "true", "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1"}
    environment["PATH"] = f"{PROJECT / '.venv' / 'bin'}{os.pathsep}{environment['PATH']}"
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # as the Makefile does; the empty app's is kept as well
    seconds: dict[str, list[float]] = {"make synth ENV=dev": [], "empty": []}
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder)
        (empty / "app.py").write_text(_EMPTY, encoding="utf-8")
        (empty / "cdk.json").write_text(json.dumps({"app": f"{sys.executable} app.py"}), encoding="utf-8")
        cdk = [str(PROJECT / "node_modules" / ".bin" / "cdk"), "synth", "--quiet"]
        for turn in range(rounds + 1):
            for name, command, where in (
                ("empty", cdk, empty),
                ("make synth ENV=dev", ["make", "--silent", "synth", "ENV=dev"], PROJECT),
            ):
                took = _seconds(command, where, environment)
                if turn:
                    seconds[name].append(round(took, 2))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    return {
        "seconds": seconds,
        "medians": medians,
        "ratio": round(medians["make synth ENV=dev"] / medians["empty"], 2),
    }


def explain(rounds: int) -> dict[str, float]:
    """Median seconds of each part of the app's process."""
    found: list[dict[str, float]] = []
    context = json.loads((PROJECT / "cdk.json").read_text(encoding="utf-8"))["context"] | {"environment": "dev"}
    for _ in range(rounds + 1):
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {
                "CDK_CONTEXT_JSON": json.dumps(context),
                "CDK_OUTDIR": folder,
                "PATH": f"{PROJECT / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
            }
            environment.pop("PYTHONDONTWRITEBYTECODE", None)
            command = [sys.executable, "-c", _EXPLAINED]
            done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
            found.append(json.loads(done.stdout))
    return {part: round(statistics.median(each[part] for each in found[1:]), 2) for part in found[0]}


def _seconds(command: list[str], where: Path, environment: Mapping[str, str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--explain", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    results = measure(arguments.rounds)
    if arguments.explain:
        results["parts"] = explain(3)
    if arguments.json:
        print(json.dumps(results, indent=1))
    else:
        for name, each in results["seconds"].items():
            print(f"{name:20} median {results['medians'][name]:.2f} s  ({', '.join(f'{one:.2f}' for one in each)})")
        print(f"ratio {results['ratio']} (goal: at most {GOAL})")
        for part, took in results.get("parts", {}).items():
            print(f"  {took:5.2f} s  {part}")
    if results["ratio"] > GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
