"""`python -m offload.cli.local.toolchain`: the environments of the embedded AWS and of the runner of durable functions.

Both are apart from the app's own: what is installed beside it, handlers could import without bundling it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

import uv

from offload.cli import terminal
from offload.cli.deployment.failure import Failure
from offload.project import PROJECT

_LOCKS: Final = Path(__file__).with_name("requirements")
_READY: Final = ".ready"


def install(project: Path = PROJECT) -> list[str]:
    """Installs what is not there yet, or is locked otherwise, into `.offload` of the project; returns what it did.

    Raises Failure, with uv's words, when it cannot be installed.
    """
    done = []
    for lock in sorted(_LOCKS.glob("*.txt")):
        folder = project / ".offload" / lock.stem
        # Another Python needs other packages.
        digest = sha256(lock.read_bytes() + sys.version.encode()).hexdigest()
        ready = folder / _READY
        if ready.is_file() and ready.read_text(encoding="utf-8") == digest:
            continue
        shutil.rmtree(folder, ignore_errors=True)
        _uv("venv", "--python", sys.executable, str(folder))
        # Neither writes bytecode later: without it each cold start of a function would compile the packages again.
        python = str(folder / "bin" / "python")
        _uv("pip", "sync", "--compile-bytecode", "--require-hashes", "--python", python, str(lock))
        ready.write_text(digest, encoding="utf-8")
        done.append(lock.stem)
    return done


def _uv(*arguments: str) -> None:
    command = [uv.find_uv_bin(), *arguments, "--quiet", "--color", "never"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failure(f"uv {arguments[0]}: {done.stderr.strip()}")


def main() -> None:
    """Installs, and says what; exit code 1 with one readable line when it cannot."""
    try:
        for name in install():
            terminal.line(f"installed .offload/{name}")
    except Failure as failure:
        terminal.line(f"offload: {failure}", stderr=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
