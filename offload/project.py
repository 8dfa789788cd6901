"""The project that the framework works for, as `[tool.offload]` of its pyproject.toml describes it."""

from __future__ import annotations

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

from offload.contracts.catalogue import Catalogue

FRAMEWORK: Final = "offload"
"""The framework's own package."""

_FILE: Final = "pyproject.toml"
_MARK: Final = "cdk.json"
_INSTALLED: Final = Path(__file__).resolve().parents[1]


def _root() -> Path:
    here = Path.cwd()
    # A checkout of the framework serves from any folder.
    above = (here, *here.parents, _INSTALLED)
    return next((folder for folder in above if (folder / _MARK).is_file()), here)


PROJECT: Final = _root()
"""The app's folder: the nearest one with a cdk.json, from the current one upwards; app.py and .offload are there."""


class UnusableProject(Exception):
    """The project's settings are wrong; the message is one line for people."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[tool.offload]`: `catalogue` is the module whose `CATALOGUE` says what the app has (`offload.contracts`)."""

    catalogue: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")] | None = None


@dataclass(frozen=True)
class Project:
    """A project's folder and its settings."""

    root: Path
    settings: Settings

    @classmethod
    def at(cls, root: Path) -> Project:
        """The project in the folder `root`; one without a pyproject.toml has no catalogue. Raises UnusableProject."""
        file = root / _FILE
        try:
            document = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            document = {}
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UnusableProject(f"{file}: {error}") from error
        try:
            return cls(root, msgspec.convert(document.get("tool", {}).get("offload", {}), Settings))
        except msgspec.ValidationError as error:
            raise UnusableProject(f"{file}: [tool.offload]: {error}") from error

    def home(self, name: str) -> Path:
        """The folder that a name in a bundle is relative to: the project's, or where the framework is installed."""
        if name.partition("/")[0] == FRAMEWORK and not (self.root / FRAMEWORK).is_dir():
            return _INSTALLED
        return self.root

    def path_of(self, name: str) -> Path:
        """The file or folder of that name in a bundle."""
        return self.home(name) / name

    @property
    def packages(self) -> tuple[str, ...]:
        """The packages whose modules are bundled with the functions that import them: the framework's, and the app's.

        The app's is the one that its catalogue is in.
        """
        named = self.settings.catalogue
        return (FRAMEWORK, *([named.partition(".")[0]] if named else []))

    def catalogue(self) -> Catalogue:
        """What the app has: nothing where no catalogue is named. Raises UnusableCatalogue."""
        named = self.settings.catalogue
        if not named:
            return Catalogue("")
        self.make_importable()
        return Catalogue.load(named)

    def make_importable(self) -> None:
        """Puts the project's folder on the path: `offload` is a script of the environment that it is installed in."""
        if str(self.root) not in sys.path:
            sys.path.insert(0, str(self.root))
