"""The texts that `offload new` fills in: a folder of templates for an app, and one for each kind of part."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Final

from offload.cli.new.edit import with_sorted_imports

OWN_FOLDERS: Final = ("app", "lambdas", "stacks")
"""What an app's modules import of their own, beside its package."""

_FOLDER: Final = Path(__file__).with_name("templates")
_ENDING: Final = ".tmpl"


def filled(kind: str, values: Mapping[str, str], own: Collection[str]) -> Iterator[tuple[str, str]]:
    """The files of a kind, by their paths in the app's folder; `{{name}}` in path and text is the value of that name.

    The imports of a module are sorted as the app's are; `own` are the packages that are its own.
    """
    for template in sorted((_FOLDER / kind).rglob(f"*{_ENDING}")):
        name = template.relative_to(_FOLDER / kind).as_posix().removesuffix(_ENDING)
        text = template.read_text(encoding="utf-8")
        for key, value in values.items():
            name, text = name.replace(f"{{{{{key}}}}}", value), text.replace(f"{{{{{key}}}}}", value)
        yield name, with_sorted_imports(text, own) if name.endswith(".py") else text
