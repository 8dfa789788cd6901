"""Sends tasks to a peer whose worker runs, from one thread, and times them; run by peers.py in the peers' environment.

python peer_client.py celery_tasks SINGLE MANY
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Final

import redis  # type: ignore[import-not-found]  # in the peers' own environment

WITHIN: Final = 300.0
POLL: Final = 0.05


def main() -> None:
    """Prints the seconds of each submit and of each round trip, and the tasks a second of many at once."""
    tasks = importlib.import_module(sys.argv[1])
    single, many = int(sys.argv[2]), int(sys.argv[3])
    # The first ones open connections and start the worker's own.
    for number in range(20):
        tasks.wait(tasks.send(number))
    submits, trips = [], []
    for number in range(single):
        began = time.perf_counter()
        sent = tasks.send(number)
        submits.append(time.perf_counter() - began)
        if tasks.wait(sent) != number:
            sys.exit("a task gave another number back")
        trips.append(time.perf_counter() - began)
    results = redis.Redis.from_url(f"{os.environ['OFFLOAD_BENCH_REDIS']}/{tasks.DATABASE}")
    before = results.dbsize()
    began = time.perf_counter()
    for number in range(many):
        tasks.send(number)
    submitted = time.perf_counter() - began
    deadline = time.monotonic() + WITHIN
    while results.dbsize() - before < many:
        if time.monotonic() > deadline:
            sys.exit(f"not done after {WITHIN:.0f} s")
        time.sleep(POLL)
    took = time.perf_counter() - began
    print(json.dumps({"submits": submits, "trips": trips, "submitted": many / submitted, "rate": many / took}))


if __name__ == "__main__":
    main()
