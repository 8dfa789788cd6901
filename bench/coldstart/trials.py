"""What each way to a shorter cold start gains: `sales_ledger` as it is, and with one thing put back or added.

Each trial is a copy of its bundle with one change, compiled again; all take turns, round by round, each in a fresh
process, with the same real first event as in `run.py`. What counts is import and first event together: what only moves
from one to the other is no gain.

    .venv/bin/python bench/coldstart/trials.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.coldstart.cases import Case, cases
from bench.coldstart.run import Processes
from offload.cdk.bundling.bytecode import compile_modules
from offload.cli.deployment.aws import shell_settings
from offload.cli.local.process import EmbeddedAws

FUNCTION: Final = "sales_ledger"
_AWS: Final = "offload/runtime/aws.py"
_LOG: Final = "offload/runtime/log.py"
_LOADER: Final = '    session.register_component("data_loader", _Loader(table=table))\n'
_THREAD: Final = 'import threading\n\nthreading.Thread(target=_client, args=("dynamodb",)).start()\n'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embedded = EmbeddedAws(folder / "embedded", persist=False)
        try:
            settings = shell_settings(embedded.start())
            os.environ.update(settings)
            processes = Processes(folder, settings)
            every = {case.name: case for case in cases(folder)}
            show(measure(processes, trials(every[FUNCTION], every["usual_handler"].bundle, folder), rounds))
        finally:
            embedded.stop()


def trials(case: Case, usual: Path, folder: Path) -> dict[str, Case]:
    """By what was changed; `usual` is a bundle that has Powertools."""

    def with_powertools(bundle: Path) -> None:
        for part in ("aws_lambda_powertools", "jmespath"):
            if (usual / part).is_dir():
                shutil.copytree(usual / part, bundle / part)
        shutil.copyfile(usual / "typing_extensions.py", bundle / "typing_extensions.py")
        (bundle / _LOG).write_text("from aws_lambda_powertools import Logger\n", encoding="utf-8")

    changes: Mapping[str, Callable[[Path], None]] = {
        "as it is": lambda _: None,
        "client made at import": lambda bundle: _append(bundle, _AWS, '_client("dynamodb")\n'),
        "client made in a thread beside the import": lambda bundle: _append(bundle, _AWS, _THREAD),
        "botocore's own loader": lambda bundle: _replace(bundle, _AWS, _LOADER, ""),
        "the table of all endpoints": lambda bundle: _replace(bundle, _AWS, 'service == "s3"', "True"),
        "boto3's client": lambda bundle: _append(bundle, _AWS, _boto3("client(service, config=_CONFIG)")),
        "Powertools' Logger": with_powertools,
    }
    found = {}
    for number, (name, change) in enumerate(changes.items()):
        bundle = folder / f"trial-{number}"
        shutil.copytree(case.bundle, bundle, ignore=shutil.ignore_patterns("__pycache__"))
        change(bundle)
        compile_modules(bundle, [path.relative_to(bundle).as_posix() for path in bundle.rglob("*.py")])
        found[name] = replace(case, bundle=bundle)
    found["no bytecode"] = replace(case, bundle=case.other)
    plain = folder / "trial-plain-powertools"
    shutil.copytree(case.other, plain)
    with_powertools(plain)
    found["no bytecode, Powertools' Logger"] = replace(case, bundle=plain)
    return found


def measure(processes: Processes, every: Mapping[str, Case], rounds: int) -> dict[str, tuple[float, float, float]]:
    """Milliseconds of import, first event, and both, by trial."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in every}
    for turn in range(rounds + 1):
        for name, case in every.items():
            pair = processes.handle(case)
            if turn:
                times[name].append(pair)
    return {
        name: (
            statistics.median(imported for imported, _ in pairs) * 1000,
            statistics.median(first for _, first in pairs) * 1000,
            statistics.median(imported + first for imported, first in pairs) * 1000,
        )
        for name, pairs in times.items()
    }


def show(figures: Mapping[str, tuple[float, float, float]]) -> None:
    """Prints the table."""
    (_, _, base), *_ = figures.values()
    print(f"{FUNCTION}, ms; load {os.getloadavg()[0]:.1f}")
    print(f"{'':44}{'import':>8}{'first':>8}{'both':>8}{'more':>8}")
    for name, (imported, first, both) in figures.items():
        print(f"{name:44}{imported:8.0f}{first:8.0f}{both:8.0f}{both - base:+8.0f}")


def _append(bundle: Path, file: str, text: str) -> None:
    path = bundle / file
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


def _replace(bundle: Path, file: str, old: str, new: str) -> None:
    path = bundle / file
    content = path.read_text(encoding="utf-8")
    if old not in content:
        raise ValueError(f"{file} does not say '{old.strip()}' any more: correct the trial")
    path.write_text(content.replace(old, new), encoding="utf-8")


def _boto3(call: str) -> str:
    return f"\n\nimport boto3\n\n\n@lru_cache(maxsize=None)\ndef _client(service):\n    return boto3.{call}\n"


if __name__ == "__main__":
    main()
