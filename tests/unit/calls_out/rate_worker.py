"""Invocations that call a third party one request after the other: each a thread with a bucket of its own.

Usage: rate_worker.py TABLE PER_SECOND THREADS SECONDS CALL_SECONDS PORT. It says `ready`, begins at a line of input,
sends a datagram to PORT for each request, and says how often it asked DynamoDB.
"""

from __future__ import annotations

import random
import socket
import sys
import threading
import time

from offload.runtime import aws
from offload.runtime.http.rate import Bucket


def main() -> None:
    """Works for SECONDS."""
    table, per_second, threads, seconds, call_seconds, port = sys.argv[1:]
    asked = []
    client = aws.dynamodb()
    client.meta.events.register("before-send", lambda **_: asked.append(1))
    client.get_item(TableName=table, Key={"pk": {"S": "warm"}})
    asked.clear()
    print("ready", flush=True)
    sys.stdin.readline()
    until = time.monotonic() + float(seconds)

    def work() -> None:
        bucket = Bucket("third", table, float(per_second))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            while time.monotonic() < until:
                bucket.acquire(within=30)
                out.sendto(b"1", ("127.0.0.1", int(port)))
                time.sleep(float(call_seconds) * random.uniform(0.5, 1.5))

    workers = [threading.Thread(target=work) for _ in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(len(asked), flush=True)


if __name__ == "__main__":
    main()
