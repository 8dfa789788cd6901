"""`python -m tests.shop.scale`: the proof at scale, in a folder of its own, to be stopped and resumed at any time."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from offload.cli.deployment.failure import Failure
from tests.shop.scale.plan import POISON_EVERY, Plan
from tests.shop.scale.plot import plot
from tests.shop.scale.run import Run, Stopped

_STOPPED = 130  # as a shell has it of a command that was interrupted


def main() -> int:
    """Runs, prints the result as JSON and gives the exit code: 0 where everything is exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.shop.scale", description=__doc__)
    parser.add_argument("--orders", type=int, default=200_000, help="good orders, each an event (default 200,000)")
    parser.add_argument("--leg", type=int, default=25_000, help="orders between two copies of the state")
    parser.add_argument("--poison-every", type=int, default=POISON_EVERY, help="orders for one broken event")
    parser.add_argument("--kill-every", type=int, default=200, help="orders done for one killed worker, in the mean")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--folder", type=Path, default=Path(".offload/scale"), help="what is there is gone on with")
    parser.add_argument("--brought-up", type=Path, help="a stopped embedded AWS with the app, to begin from")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw throughput, memory and disk")
    arguments = parser.parse_args()
    plan = Plan(arguments.seed, arguments.orders, arguments.leg, arguments.poison_every)
    run = Run(arguments.folder, plan, kill_every=arguments.kill_every, say=say)
    try:
        result = run.go(arguments.brought_up)
    except Stopped:
        say("stopped: the same command goes on from here")
        return _STOPPED
    except Failure as failure:
        say(f"the proof ended early: {failure}")
        return 1
    print(json.dumps(result.document(), indent=2))
    if arguments.plot:
        plot(arguments.folder / "samples.jsonl", arguments.plot, orders=arguments.orders)
    return 1 if result.differences else 0


def say(text: str) -> None:
    """A line for who waits, on stderr."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
