"""The shop's functions and the framework's as the shop has them, bundled with the packages that they run with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from offload.cdk.bundling import Bundler
from offload.contracts.functions import own
from offload.contracts.webhooks_in.stored_secret import PROVIDERS_MODULE
from offload.project import PROJECT
from tests.bundles import ARM, check_its_wheels, check_that_it_imports, held, runtime_in, variables_in
from tests.functions import sources

pytestmark = pytest.mark.synthesis


@pytest.fixture(scope="module")
def variables(assembly_of: Callable[[str], Path]) -> dict[str, dict[str, str]]:
    """By function, the environment variables that the shop gives it."""
    return variables_in(assembly_of("local"))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtime_in(tmp_path_factory.mktemp("runtime"))


@pytest.mark.parametrize("source", sources())
def test_each_bundle_imports_its_handler_in_a_bare_interpreter_beside_the_runtimes_boto3(
    source: str, variables: dict[str, dict[str, str]], runtime: Path
) -> None:
    check_that_it_imports(PROJECT, source, variables[source], runtime)


@pytest.mark.parametrize(
    ("source", "types"),
    [
        ("sales_report", {"sales_report"}),
        ("exchange_rates", {"exchange_rates"}),
        ("order_import", {"order_import"}),
        ("customer_segments", {"customer_segments"}),
        ("customers_shard", {"customer_segments"}),
    ],
)
def test_a_job_has_the_types_that_it_runs_and_starts_and_no_other_of_the_app(source: str, types: set[str]) -> None:
    bundle = Bundler(PROJECT).bundle(source, ARM).path
    assert {path.stem for path in (bundle / "shop/contracts/jobs").glob("*.py")} - {"__init__"} == types
    assert not (bundle / "shop/catalogue.py").exists()


def test_the_receiver_of_webhooks_has_the_providers_and_nothing_else_of_the_catalogue(
    variables: dict[str, dict[str, str]],
) -> None:
    reaches = [variables[own("webhook_receiver")][PROVIDERS_MODULE]]
    assert held(Bundler(PROJECT).bundle(own("webhook_receiver"), ARM, reaches=reaches).path, "shop") == {
        "shop/__init__.py",
        "shop/contracts/__init__.py",
        "shop/contracts/warehouse.py",
        "shop/providers.py",
    }


@pytest.mark.parametrize("source", sources())
def test_each_function_has_its_wheels_for_aws(source: str) -> None:
    check_its_wheels(PROJECT, source)
