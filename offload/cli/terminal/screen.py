"""rich's console as the command line uses it: texts are texts, never markup, and none of them steers the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from offload.contracts.visible import visible, visible_block, visible_json


class Screen(Console):
    """A console for texts of strangers.

    A string, also in the cell of a table, is one line: what it has of control characters is shown as escapes, before
    widths are measured. `[red]` and `:smile:` in it are those characters. What is rendered by other ways is made
    visible where it becomes output.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **settings})

    def render_str(self, text: str, **settings: Any) -> Text:
        """A string as rich's text; an empty one stays empty."""
        return super().render_str(visible(text), **{**settings, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What becomes output: rich's own cursor movements, and texts without control characters or links."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                style = segment.style
                yield Segment(visible_block(segment.text), style.update_link(None) if style and style.link else style)

    def out(self, *objects: Any, **settings: Any) -> None:
        """Rich's would print past `render`."""
        self.print(*objects, soft_wrap=True, **settings)

    def block(self, text: str, **settings: Any) -> None:
        """Prints a text that keeps its line breaks, such as indented JSON."""
        self.print(Text(visible_block(text)), soft_wrap=True, **settings)

    def json(self, value: Any) -> None:
        """Prints a value as indented JSON among other lines; it can be copied as JSON."""
        self.block(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))
