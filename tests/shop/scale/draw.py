"""`draw.py SAMPLES.jsonl FILE.svg ORDERS`: four curves over the time of a run.

It runs with bench/webhooks/requirements.txt, which nothing else of the project needs.
"""

from __future__ import annotations

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl  # type: ignore[import-not-found]  # in an environment of its own
from matplotlib import pyplot

# The same file from the same figures, and text as text.
mpl.rcParams.update({"svg.hashsalt": "scale", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10})
POINTS: Final = 200
# Blue, orange, green and purple that are told apart with any eyes (Okabe and Ito).
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"


def draw(samples: list[dict[str, Any]], file: str, orders: int) -> None:
    """Writes the plot."""
    chosen = samples[:: max(1, len(samples) // POINTS)]
    chosen = chosen if chosen[-1] is samples[-1] else [*chosen, samples[-1]]
    minutes = [each["seconds"] / 60 for each in chosen]
    pairs = list(pairwise(chosen))
    rates = [(b["done"] - a["done"]) / max(b["seconds"] - a["seconds"], 0.1) for a, b in pairs]
    figure, (upper, middle, lower) = pyplot.subplots(3, 1, figsize=(7.2, 6.6), sharex=True, layout="constrained")
    upper.plot(minutes[1:], rates, color=BLUE, linewidth=1.4)
    upper.set_ylabel("orders done a second")
    middle.plot(minutes, [each["emulator_mib"] for each in chosen], color=ORANGE, linewidth=1.6, label="embedded AWS")
    middle.plot(minutes, [each["workers_mib"] for each in chosen], color=GREEN, linewidth=1.6, label="function workers")
    middle.set_ylabel("memory, MiB")
    middle.legend(frameon=False)
    lower.plot(minutes, [each["disk_mib"] for each in chosen], color=PURPLE, linewidth=1.6)
    lower.set_ylabel("disk, MiB")
    lower.set_xlabel("minutes, stops left out")
    for axes in (upper, middle, lower):
        axes.set_ylim(bottom=0)
        axes.grid(color="#dddddd", linewidth=0.5)
        axes.set_axisbelow(True)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    figure.suptitle(f"{orders:,} orders through the app, embedded AWS on {os.cpu_count()} cores", fontsize=11)
    figure.patch.set_facecolor("white")
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    source, target, count = sys.argv[1:]
    draw([json.loads(line) for line in Path(source).read_text().splitlines()], target, int(count))
