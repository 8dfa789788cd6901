"""A process that is told to end does so, whatever it was doing at that moment."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.patience import PATIENCE

TOLD_WHILE_IT_WAITS = """
import signal, threading
from offload.client.signals import set_by_signals

stop = threading.Event()
with set_by_signals(stop):
    # As in the first and the last moment of `stop.wait()`: the lock is this thread's.
    with stop._cond:
        signal.raise_signal(signal.{name})
    assert stop.wait(600)
print("ended")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_comes_in_the_midst_of_a_wait_ends_the_process(name: str) -> None:
    code = TOLD_WHILE_IT_WAITS.format(name=name)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (run.stdout, run.returncode) == ("ended\n", 0), run.stderr
