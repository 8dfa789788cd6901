"""`offload`, or `python -m offload`: the command line, or what has to be installed for it."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; where it is not installed, says how that is done, with exit code 1."""
    try:
        from offload.cli.main import main as run
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "offload":
            raise
        sys.exit(f"offload: the command line needs {error.name}, which is not installed: pip install 'offload[cli]'")
    run()


if __name__ == "__main__":
    main()
