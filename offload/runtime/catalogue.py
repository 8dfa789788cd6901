"""The app's catalogue in a function of the framework's own: what the app has is named by a variable."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from offload.runtime.settings import Settings

if TYPE_CHECKING:
    from offload.contracts.catalogue import Catalogue
    from offload.contracts.webhooks_in.scheme import Providers


class _CatalogueSettings(Settings, frozen=True, kw_only=True):
    offload_catalogue: str


class _ProvidersSettings(Settings, frozen=True, kw_only=True):
    offload_providers_module: str


def catalogue() -> Catalogue:
    """What the app has; raises MissingSetting for a function that was not told where that stands."""
    # The bundle has the module because the construct names it as what the function reaches.
    found: Catalogue = importlib.import_module(_CatalogueSettings.from_environment().offload_catalogue).CATALOGUE
    return found


def providers() -> Providers:
    """Who may send the app webhooks, without the rest of its catalogue; raises MissingSetting likewise."""
    found: Providers = importlib.import_module(_ProvidersSettings.from_environment().offload_providers_module).PROVIDERS
    return found
