"""The API of subscriptions and deliveries, and the commands pointed at it, for the modules that try those."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.clinics import CLINIC

if TYPE_CHECKING:
    from offload.cli.deployment.resources import Deployment
    from offload.cli.local.process import Instance
    from tests.unit.webhooks_out.sending_bench import SendingBench

# Every stack's functions are told so; a test that imports a handler of the framework's need not repeat it.
os.environ |= {"OFFLOAD_CATALOGUE": "clinic.catalogue", "OFFLOAD_PROVIDERS_MODULE": "clinic.providers"}


@pytest.fixture(autouse=True)
def commands_of_the_clinic(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app that commands find is the clinic."""
    monkeypatch.setattr("offload.cli.catalogue.PROJECT", CLINIC)


@pytest.fixture
def deployment(bench: SendingBench, emulator: Instance, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployment]:
    """What commands find: the API on the table of the module's own bench."""
    from tests.unit.webhooks_out.subscriptions_endpoint import commands_on

    with commands_on(bench, emulator, monkeypatch) as found:
        yield found
