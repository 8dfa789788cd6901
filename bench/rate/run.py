"""Two ways to keep a rate of 100 a second among workers: a token bucket in one item, and windows of numbers.

Workers call one after the other, on a simulated clock; the table takes 5 ms for an answer. Of each it says how many
requests a second were sent (after the first six, in which windows find out what each worker can use), the fullest
second, wherever it begins, and calls of the table a request.

    .venv/bin/python bench/rate/run.py
"""

from __future__ import annotations

import statistics
from typing import Any, Final

from bench.rate.windows import Bucket
from tests.simulated_rate import PER_SECOND, Limiter, Simulated, Worker, take, token_bucket

TABLE_SECONDS: Final = 0.005
SECONDS: Final = 30
CASES: Final = ((1, 0.001), (20, 0.02), (20, 0.05), (20, 0.1), (20, 0.15), (50, 0.2), (8, 0.05), (5, 0.1), (200, 0.1))


def windows(worker: Worker) -> Limiter:
    """Numbers of windows, drawn several at once, by one worker."""
    client: Any = worker
    return Bucket("third", "t", PER_SECOND, now=worker.now, sleep=worker.sleep, dynamodb=lambda: client)


def draw(items: dict[str, dict[str, float]], request: Any) -> Any:
    """What the table does for a draw of numbers in a window."""
    values = request["ExpressionAttributeValues"]
    item = items.setdefault(request["Key"]["pk"]["S"], {"first": int(values[":first"]["N"]), "drawn": 0})
    item["drawn"] += int(values[":wanted"]["N"])
    return {"Attributes": {name: {"N": str(value)} for name, value in item.items()}}


def main() -> None:
    """Prints a table."""
    print("| workers, a call takes | possible | limiter | a second, median (least) | fullest | calls of the table |")
    print("| --- | --- | --- | --- | --- | --- |")
    for workers, call_seconds in CASES:
        possible = min(PER_SECOND, workers / call_seconds)
        for name, limiter, update in (("token bucket", token_bucket, take), ("windows", windows, draw)):
            done = Simulated(
                workers, call_seconds, SECONDS, limiter=limiter, update=update, table_seconds=TABLE_SECONDS
            )
            seconds, asked = done.in_seconds(after=6), done.asked / len(done.sent)
            print(
                f"| {workers}, {call_seconds * 1000:.0f} ms | {possible:.0f} | {name} | "
                f"{statistics.median(seconds):.0f} ({min(seconds)}) | {done.most()} | {asked:.2f} |"
            )


if __name__ == "__main__":
    main()
