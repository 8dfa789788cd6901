"""Bars as inline SVG, coloured by the page's style sheet.

A chart library would bring 0.9 MB to the bundle and 85 ms to every cold start (pygal 3), and a script from elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from html import escape
from typing import Final, NamedTuple

MINUS: Final = "\N{MINUS SIGN}"
WIDTH: Final = 960
HEIGHT: Final = 300
_LEFT: Final = 64
_TOP: Final = 12
_BOTTOM: Final = 44
_STEPS: Final = 5
# A digit at 12 px, rather wide, and air between two labels.
_CHARACTER_WIDTH: Final = 8
_LABEL_GAP: Final = 10


class Bar(NamedTuple):
    """`value` is its height, `label` stands below it (a line a text), `title` is told to whoever points at it."""

    value: Decimal
    label: tuple[str, ...]
    title: str


def columns(bars: Sequence[Bar], description: str) -> str:
    """A chart of upright bars, in their order, from a common zero line; `description` is its text alternative."""
    lowest, highest, step = scale_of([bar.value for bar in bars])
    plot_width, plot_height = WIDTH - _LEFT, HEIGHT - _TOP - _BOTTOM

    def y(value: Decimal) -> float:
        return _TOP + float((highest - value) / (highest - lowest)) * plot_height

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(description)}">']
    mark = lowest
    while mark <= highest:
        kind = "zero" if mark == 0 else "grid"
        parts.append(f'<line class="{kind}" x1="{_LEFT}" x2="{WIDTH}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>')
        parts.append(f'<text class="mark" x="{_LEFT - 8}" y="{y(mark) + 4:.1f}">{escape(short(mark))}</text>')
        mark += step
    pitch = plot_width / max(1, len(bars))
    widest = max((len(bar.label[0]) for bar in bars), default=1) * _CHARACTER_WIDTH + _LABEL_GAP
    every = max(1, -int(-widest // pitch))
    for index, bar in enumerate(bars):
        left = _LEFT + index * pitch + pitch * 0.14
        top, foot = sorted((y(bar.value), y(Decimal(0))))
        if bar.value:
            kind = "less" if bar.value < 0 else "more"
            parts.append(
                f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{pitch * 0.72:.1f}" '
                f'height="{max(foot - top, 1):.1f}" rx="{min(3.0, pitch * 0.2):.1f}">'
                f"<title>{escape(bar.title)}</title></rect>"
            )
        # Further lines are rare, such as a month below its first day, and have a height of their own.
        for line, text in list(enumerate(bar.label))[0 if index % every == 0 else 1 :]:
            below = HEIGHT - _BOTTOM + 18 + line * 16
            parts.append(f'<text class="label" x="{left + pitch * 0.36:.1f}" y="{below}">{escape(text)}</text>')
    return "".join([*parts, "</svg>"])


def strip(value: Decimal, lowest: Decimal, highest: Decimal) -> str:
    """One lying bar, for a table's cell with the number beside it; `lowest` is 0 or less, and places the zero line."""
    span = (highest - lowest) or Decimal(1)
    zero = float(-lowest / span) * 100
    length = float(abs(value) / span) * 100
    left = zero - length if value < 0 else zero
    kind = "less" if value < 0 else "more"
    return (
        '<svg class="strip" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="{left:.2f}" y="0" width="{max(length, 0.4) if value else 0:.2f}" height="10"/></svg>'
    )


def scale_of(values: Sequence[Decimal]) -> tuple[Decimal, Decimal, Decimal]:
    """The lowest and highest mark of an axis with zero that takes in all `values`, and the step between its marks.

    The step is 1, 2 or 5 times a power of ten.
    """
    least, most = min([Decimal(0), *values]), max([Decimal(0), *values])
    if least == most:
        return Decimal(0), Decimal(1), Decimal(1)
    rough = (most - least) / _STEPS
    power = Decimal(1).scaleb(rough.adjusted())
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    lowest = (least / step).to_integral_value(ROUND_FLOOR) * step
    highest = (most / step).to_integral_value(ROUND_CEILING) * step
    return lowest, highest, step


def short(amount: Decimal) -> str:
    """A round amount of an axis in few characters: `£20k`."""
    sign, size = (MINUS if amount < 0 else ""), abs(amount)
    for limit, suffix in ((Decimal(10) ** 6, "m"), (Decimal(10) ** 3, "k")):
        if size >= limit:
            return f"{sign}£{(size / limit).normalize():f}{suffix}"
    return f"{sign}£{size.normalize():f}"
