"""How long bundling takes: six functions with Powertools and pydantic, against `sam build` and a bare uv loop.

All three build the same functions for arm64 and this machine's Python version, one after the other, in processes of
their own whose whole time counts. "Cold" means that nothing is built and the tools' own caches of downloads are warm;
`--empty-caches` also measures them empty. The functions come in two kinds: `alike` all require the same, so that we
install once and link; `apart` each require one package more of their own, so that we install six times.

"Unchanged" is a synth of six functions over an empty app's, which imports nothing but the CDK's core, and over the same
six with bundling switched off. What lies between those two is the CDK's: its modules for Lambda, logs and IAM, and 24
more resources. What is unchanged has a project of its own, that no cold step empties.

    .venv/bin/python bench/bundling/run.py                   a table of medians of three
    .venv/bin/python bench/bundling/run.py --rounds 5 --json
    .venv/bin/python bench/bundling/run.py --empty-caches    once, with downloads

sam installs by pip and uv does not read pip's settings: where those name more indexes, give sam its best with
`env -u PIP_FIND_LINKS PIP_CONFIG_FILE=/dev/null` in front. The load is printed: a busy machine's ratios are rough.

It writes nothing but `.offload/bench/sam`, the environment of aws-sam-cli. Leaves with 1 when a goal is missed.
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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import uv

from offload.cdk.bundling.lock import compile_lock

PROJECT: Final = Path(__file__).resolve().parents[2]
SAM_VERSION: Final = "1.170.0"
SAM: Final = PROJECT / ".offload" / "bench" / "sam"
SAM_GOAL: Final = 10.0
BARE_GOAL: Final = 1.2
UNCHANGED_GOAL: Final = 0.2

PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
COMMON: Final = ("aws-lambda-powertools==3.37.0", "pydantic>=2")
# One small pure package each, for the functions that are `apart`.
OWN: Final = ("attrs", "python-dateutil", "packaging", "idna", "certifi", "click")
FUNCTIONS: Final = tuple(f"function_{number}" for number in range(1, len(OWN) + 1))

HANDLER: Final = """\
from aws_lambda_powertools import Logger
from pydantic import BaseModel

logger = Logger(service="bench")


class Seen(BaseModel):
    value: int


def handler(event, context):
    return Seen(**event).value
"""

OURS: Final = """\
import sys
from pathlib import Path
from offload.cdk.bundling import Bundler, Target
bundler, target = Bundler(Path(sys.argv[1])), Target.of(sys.argv[2], "arm64")
for source in sys.argv[3:]:
    bundler.bundle(source, target)
"""

EMPTY: Final = """\
import sys
from aws_cdk import App, Stack
app = App(outdir=sys.argv[1])
Stack(app, "Stack")
app.synth()
"""

SYNTH: Final = """\
import sys
from aws_cdk import App, Stack
from offload.cdk.constructs.python_function import ROOT_CONTEXT, PythonFunction
from offload.cdk.environment import Environment
off = {"aws:cdk:bundling-stacks": []} if sys.argv[3] == "off" else {}
app = App(outdir=sys.argv[2], context={ROOT_CONTEXT: sys.argv[1], **off})
Environment.load("dev").attach(app)
stack = Stack(app, "Stack")
for source in sys.argv[4:]:
    PythonFunction(stack, source.title().replace("_", ""), source=source)
app.synth()
"""


def make_project(root: Path, *, apart: bool) -> Path:
    """Six functions with Powertools and pydantic, for all three builders."""
    for number, source in enumerate(FUNCTIONS):
        folder = root / "lambdas" / source
        folder.mkdir(parents=True)
        (folder / "handler.py").write_text(HANDLER)
        requirements = [*COMMON, *([OWN[number]] if apart else [])]
        (folder / "requirements.txt").write_text("\n".join(requirements) + "\n")
    (root / "lambdas" / "constraints.txt").write_text(compile_lock(root))
    resources = {
        source.replace("_", ""): {
            "Type": "AWS::Serverless::Function",
            "Properties": {
                "CodeUri": f"lambdas/{source}",
                "Handler": "handler.handler",
                "Runtime": f"python{PYTHON}",
                "Architectures": ["arm64"],
            },
        }
        for source in FUNCTIONS
    }
    template = {"Transform": "AWS::Serverless-2016-10-31", "Resources": resources}
    (root / "template.json").write_text(json.dumps(template))
    return root


def timed(command: Sequence[str | Path], cwd: Path, variables: Mapping[str, str]) -> float:
    """Seconds that a command takes; its own words when it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=dict(variables), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"bench/bundling: {command[0]} failed:\n{done.stdout}\n{done.stderr}")
    return seconds


class Bench:
    """The builders, over one project, with the caches of one set of environment variables."""

    def __init__(self, root: Path, variables: Mapping[str, str]) -> None:
        self.root = root
        self.variables = {**variables, "PYTHONPATH": str(PROJECT), "SAM_CLI_TELEMETRY": "0"}
        # Many containers set it; every process would then compile its modules anew.
        self.variables.pop("PYTHONDONTWRITEBYTECODE", None)
        # sam looks for the runtime's interpreter on the PATH.
        self.variables["PATH"] = f"{PROJECT / '.venv' / 'bin'}{os.pathsep}{self.variables['PATH']}"

    def bare(self) -> float:
        """The loop that anyone would write: install into a folder, copy the sources beside it."""
        built = self._without("bare")
        seconds = 0.0
        for source in FUNCTIONS:
            folder = self.root / "lambdas" / source
            command: list[str | Path] = [
                uv.find_uv_bin(),
                "pip",
                "install",
                "--quiet",
                "--target",
                built / source,
                "--only-binary",
                ":all:",
            ]
            command += ["--python", sys.executable, "--python-platform", "aarch64-manylinux_2_17"]
            command += ["--python-version", PYTHON, "--requirement", folder / "requirements.txt"]
            seconds += timed(command, self.root, self.variables)
            started = time.perf_counter()
            shutil.copytree(folder, built / source, dirs_exist_ok=True)
            seconds += time.perf_counter() - started
        return seconds

    def ours(self, *, cold: bool = True) -> float:
        """The bundler without the CDK around it."""
        if cold:
            self._without(".offload")
        return timed([sys.executable, "-c", OURS, self.root, PYTHON, *FUNCTIONS], self.root, self.variables)

    def sam(self, *options: str, keep: bool = False) -> float:
        """`sam build` with `options`."""
        if not keep:
            self._without(".aws-sam")
        command: list[str | Path] = [SAM / "bin" / "sam", "build", "--template", "template.json", *options]
        return timed(command, self.root, self.variables)

    def empty_synth(self) -> float:
        """A synth of one empty stack in a process of its own."""
        return timed([sys.executable, "-c", EMPTY, self.root / "empty.out"], PROJECT, self.variables)

    def synth(self, *, bundling: bool = True) -> float:
        """A synth of the six functions in a process of its own."""
        # Each has its own output: the CDK copies no asset that it finds there.
        switch = "on" if bundling else "off"
        command: list[str | Path] = [sys.executable, "-c", SYNTH, self.root, self.root / f"{switch}.out", switch]
        return timed([*command, *FUNCTIONS], PROJECT, self.variables)

    def _without(self, folder: str) -> Path:
        shutil.rmtree(self.root / folder, ignore_errors=True)
        return self.root / folder


def install_sam() -> None:
    """Puts aws-sam-cli into its own environment, unless that version is there."""
    marker = SAM / f"ready-{SAM_VERSION}"
    if marker.is_file():
        return
    print(f"Installing aws-sam-cli {SAM_VERSION} into {SAM.relative_to(PROJECT)}", file=sys.stderr)
    shutil.rmtree(SAM, ignore_errors=True)
    subprocess.run([uv.find_uv_bin(), "venv", "--quiet", "--python", sys.executable, SAM], check=True)
    # sam calls the pip of the runtime's interpreter, which is the project's; it needs none of its own.
    python = SAM / "bin" / "python"
    command: list[str | Path] = [
        uv.find_uv_bin(),
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        f"aws-sam-cli=={SAM_VERSION}",
    ]
    subprocess.run(command, check=True)
    marker.touch()


def measure(steps: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Every step once a round, in turn, so that a slow minute of the machine falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            seconds[name].append(step())
    return seconds


def main() -> None:
    """Measures, prints, and compares with the goals."""
    load = os.getloadavg()[0]
    arguments = argparse.ArgumentParser(description="Bundling: six functions, against sam build and a bare uv loop.")
    arguments.add_argument("--rounds", type=int, default=3, help="of the cold builds; three times as many unchanged")
    arguments.add_argument("--only", choices=("cold", "unchanged"), help="one of the two halves")
    arguments.add_argument("--json", action="store_true")
    arguments.add_argument("--empty-caches", action="store_true", help="once, with empty download caches")
    chosen = arguments.parse_args()
    install_sam()
    with tempfile.TemporaryDirectory(prefix="bundling-") as scratch:
        alike = Bench(make_project(Path(scratch, "alike"), apart=False), os.environ)
        apart = Bench(make_project(Path(scratch, "apart"), apart=True), os.environ)
        if chosen.empty_caches:
            figures = measure(with_empty_caches(apart, Path(scratch)), 1)
        else:
            figures = {}
            if chosen.only != "unchanged":
                figures |= measure(cold_steps(alike, apart), chosen.rounds)
            if chosen.only != "cold":
                still = Bench(make_project(Path(scratch, "still"), apart=False), os.environ)
                measure(unchanged_steps(still), 1)  # makes what is then unchanged
                # Short and close together, so more of them.
                figures |= measure(unchanged_steps(still), 3 * chosen.rounds)
    medians = {name: statistics.median(seconds) for name, seconds in figures.items()}
    verdicts = {} if chosen.empty_caches else compare(medians)
    if chosen.json:
        print(
            json.dumps(
                {
                    "cores": os.cpu_count(),
                    "load_at_start": load,
                    "seconds": figures,
                    "goals": {name: said for name, (said, _) in verdicts.items()},
                },
                indent=2,
            )
        )
    else:
        print(f"{os.cpu_count()} cores, load {load:.1f} at the start and {os.getloadavg()[0]:.1f} at the end")
        for name, seconds in figures.items():
            print(f"{name:<40} {medians[name]:7.2f} s   ({min(seconds):.2f} to {max(seconds):.2f})")
        for name, (said, met) in verdicts.items():
            print(f"{name:<58} {said}{'' if met else '   MISSED'}")
    sys.exit(0 if all(met for _, met in verdicts.values()) else 1)


def cold_steps(alike: Bench, apart: Bench) -> dict[str, Callable[[], float]]:
    """The builders over both kinds of functions, once the caches of downloads are full."""
    steps: dict[str, Callable[[], float]] = {}
    for kind, bench in (("alike", alike), ("apart", apart)):
        bench.bare()
        bench.sam()
        steps[f"{kind}: bare uv loop"] = bench.bare
        steps[f"{kind}: ours, cold"] = bench.ours
        steps[f"{kind}: sam build"] = bench.sam
        steps[f"{kind}: sam build --parallel"] = partial(bench.sam, "--parallel")
    return steps


def unchanged_steps(still: Bench) -> dict[str, Callable[[], float]]:
    """The builders and the synths over functions that were built before."""
    return {
        "unchanged: ours": lambda: still.ours(cold=False),
        "unchanged: sam build --cached": lambda: still.sam("--cached", keep=True),
        "synth: empty app": still.empty_synth,
        "synth: six functions, bundling off": lambda: still.synth(bundling=False),
        "synth: six functions, unchanged": still.synth,
    }


def with_empty_caches(bench: Bench, scratch: Path) -> dict[str, Callable[[], float]]:
    """The builders, each with caches of downloads that are empty."""

    def emptied(name: str) -> Bench:
        caches = {"UV_CACHE_DIR": str(scratch / name / "uv"), "PIP_CACHE_DIR": str(scratch / name / "pip")}
        return Bench(bench.root, {**os.environ, **caches})

    return {
        "apart, empty caches: bare uv loop": emptied("bare").bare,
        "apart, empty caches: ours, cold": emptied("ours").ours,
        "apart, empty caches: sam build": emptied("sam").sam,
    }


def compare(medians: Mapping[str, float]) -> dict[str, tuple[str, bool]]:
    """Each goal: what was measured, and whether it was met."""
    verdicts = {}
    for kind in ("alike", "apart"):
        if f"{kind}: ours, cold" in medians:
            ours = medians[f"{kind}: ours, cold"]
            faster = medians[f"{kind}: sam build"] / ours
            verdicts[f"{kind}: times as fast as sam build (goal {SAM_GOAL:.0f})"] = (
                f"{faster:.1f}",
                faster >= SAM_GOAL,
            )
            ratio = ours / medians[f"{kind}: bare uv loop"]
            verdicts[f"{kind}: of the bare loop (goal {BARE_GOAL})"] = (f"{ratio:.2f}", ratio <= BARE_GOAL)
    if "synth: empty app" in medians:
        unchanged = medians["synth: six functions, unchanged"]
        over_off = unchanged - medians["synth: six functions, bundling off"]
        over_empty = unchanged - medians["synth: empty app"]
        goal = f"(goal {UNCHANGED_GOAL} s)"
        verdicts[f"unchanged, over an empty synth {goal}"] = (f"{over_empty:.2f} s", over_empty < UNCHANGED_GOAL)
        verdicts[f"of which bundling, over a synth with it off {goal}"] = (
            f"{over_off:.2f} s",
            over_off < UNCHANGED_GOAL,
        )
    return verdicts


if __name__ == "__main__":
    main()
