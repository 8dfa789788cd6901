"""Draws what isolation.py found: `isolation_plot.py FILE.svg`, the series as JSON on its standard input.

It runs with bench/webhooks/requirements.txt, which nothing else of the project needs.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

import matplotlib as mpl  # type: ignore[import-not-found]  # in an environment of its own
from matplotlib import pyplot

# The same file from the same figures, and text as text.
mpl.rcParams.update({"svg.hashsalt": "isolation", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 10})
# Of a curve so many points: beyond, nobody sees a difference.
POINTS: Final = 120
# Blue, orange and green that are told apart with any eyes (Okabe and Ito), and by their dashes.
STYLES: Final = {
    "ours, without": {"color": "#0072B2", "linestyle": "-"},
    "ours, with": {"color": "#D55E00", "linestyle": "--"},
    "plain, without": {"color": "#777777", "linestyle": "-"},
    "plain, with": {"color": "#009E73", "linestyle": "-."},
}


def steps(seconds: list[float]) -> tuple[list[float], list[float]]:
    """The share of deliveries that took at most so many milliseconds, at POINTS places of equal share, and the last."""
    ordered = sorted(seconds)
    count = len(ordered)
    chosen = sorted({*(round(place * (count - 1) / POINTS) for place in range(POINTS)), *range(count - 6, count)})
    places = [each for each in chosen if each >= 0]
    return [round(1000 * ordered[each], 1) for each in places], [(each + 1) / count for each in places]


def draw(found: dict[str, Any], file: str) -> None:
    """Writes the plot."""
    figure, axes = pyplot.subplots(figsize=(7.2, 4.2), layout="constrained")
    for name, style in STYLES.items():
        if series := found["series"].get(name):
            milliseconds, share = steps(series["seconds"])
            axes.step(milliseconds, share, where="post", label=series["label"], linewidth=1.8, **style)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.01)
    axes.set_xlabel("from the event's publishing to the request at a healthy endpoint, ms")
    axes.set_ylabel("share of deliveries")
    axes.set_title(found["title"], fontsize=10)
    axes.grid(color="#dddddd", linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    figure.patch.set_facecolor("white")
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    draw(json.load(sys.stdin), sys.argv[1])
