"""What tests of several kinds share: an empty embedded AWS, a server that misbehaves, environments' assemblies."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
import botocore.loaders
import botocore.session
import pytest
from botocore.config import Config
from hypothesis import HealthCheck, settings

from offload.cli.deployment.aws import shell_settings
from offload.cli.local.process import EmbeddedAws, Instance, free_port
from tests.calls.plugin import pytest_configure, pytest_sessionfinish, pytest_terminal_summary
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

    from tests.misbehaving_server import MisbehavingServer


# Every run records the calls that functions make to AWS.
__all__ = ["pytest_configure", "pytest_sessionfinish", "pytest_terminal_summary"]

_EMBEDDED: Final = ("tests/local/", "tests/shop/local/", "tests/conformance/")
"""The folders of the tests that drive an embedded AWS."""

# Both are measures of the machine.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A new session reads botocore's data again, for most of its 0.2 s; during a run that does not change.
botocore.session.create_loader = cache(botocore.loaders.create_loader)
botocore.loaders.JSONFileLoader.load_file = staticmethod(cache(botocore.loaders.JSONFileLoader().load_file))  # type: ignore[method-assign]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lays the tests out for the processes of this run."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    items[:] = in_blocks(items, workers)


def in_blocks(items: Sequence[pytest.Item], workers: int) -> list[pytest.Item]:
    """The tests in the order in which as many processes are busy until the end, each in its own order otherwise.

    pytest-xdist gives each process a block of neighbours, and one that has none left takes from another's end. So the
    first block begins with the tests that use the CDK's constructs: that process alone warms up Node, whose first
    synthesis takes four times as long as any other, and finds what it synthesized before. Two blocks of three begin
    with the tests that drive an embedded AWS, the longest first: they mostly wait, and what only computes fills up
    the time of the others.
    """
    synthesis, long, embedded, rest = list[pytest.Item](), list[pytest.Item](), list[pytest.Item](), list[pytest.Item]()
    for item in items:
        if item.get_closest_marker("synthesis"):
            synthesis.append(item)
        elif item.get_closest_marker("long"):
            long.append(item)
        else:
            (embedded if item.nodeid.startswith(_EMBEDDED) else rest).append(item)
    waiting = max(1, workers * 2 // 3)
    blocks = [synthesis, *([] for _ in range(workers - waiting - 1))]
    share = math.ceil(len(embedded) / waiting)
    blocks += [long[each::waiting] + embedded[each * share : (each + 1) * share] for each in range(waiting)]
    laid_out, left = list[pytest.Item](), iter(rest)
    for number, block in enumerate(blocks, 1):
        room = len(items) * number // len(blocks) - len(laid_out) - len(block)
        laid_out += [*block, *islice(left, max(0, room))]
    return [*laid_out, *left]


def pytest_collection_finish() -> None:
    """Leaves out of the garbage collector's rounds what lives until the end: all modules and tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def assembly_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the assembly of this project's app in a filled-in environment, made once in a process.

    Tests read it and change nothing.
    """
    from tests.assemblies import synthesize

    return cache(lambda environment: synthesize(environment, tmp_path_factory.mktemp(environment) / "cdk.out"))


@pytest.fixture(scope="session")
def clinic_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The same of the clinic, which has one part of each kind."""
    from tests.assemblies import synthesize_clinic

    return cache(lambda environment: synthesize_clinic(environment, tmp_path_factory.mktemp(environment) / "cdk.out"))


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An embedded AWS of this test run's own."""
    # A port of its own: beside another run, the usual one might answer for the other's.
    embedded = EmbeddedAws(tmp_path_factory.mktemp("embedded"), port=free_port(), persist=False)
    try:
        yield embedded.start()
    finally:
        embedded.stop()


@contextmanager
def aws_at(emulator: Instance) -> Iterator[None]:
    """The environment variables under which boto3 and the functions' own clients find the emulator."""
    from offload.runtime import aws

    with pytest.MonkeyPatch.context() as patch:
        for name, value in shell_settings(emulator).items():
            patch.setenv(name, value)
        # The session stays: it holds the services' models, which take longer to read than most tests, and no endpoint.
        aws._client.cache_clear()
        # A function's own time-outs are for AWS: one that a slow machine reaches would send a request twice.
        patient = Config(connect_timeout=PATIENCE, read_timeout=PATIENCE)
        patch.setattr(aws, "_CONFIG", aws._CONFIG.merge(patient))
        yield
        aws._client.cache_clear()


@pytest.fixture
def aws_environment(emulator: Instance) -> Iterator[None]:
    """The emulator is what a test's clients find."""
    with aws_at(emulator):
        yield


@pytest.fixture(scope="module")
def aws_of_module(emulator: Instance) -> Iterator[None]:
    """The emulator is what a module's clients find: made once, for modules of many short tests."""
    with aws_at(emulator):
        yield


@pytest.fixture
def dynamodb(aws_environment: None) -> DynamoDBClient:
    """A client for the emulator's DynamoDB."""
    return boto3.client("dynamodb")


@pytest.fixture
def sqs(aws_environment: None) -> SQSClient:
    """A client for the emulator's SQS."""
    return boto3.client("sqs")


@pytest.fixture(scope="module")
def server() -> Iterator[MisbehavingServer]:
    """A server that misbehaves by script, for all tests of a module: each has endpoints of its own."""
    from tests.misbehaving_server import MisbehavingServer

    with MisbehavingServer() as running:
        yield running


def new_table(client: DynamoDBClient, name: str, *, sort_key: bool = True) -> str:
    """Makes a table like offload/cdk/constructs/table.py does; returns its name."""
    keys: list[Any] = [("pk", "HASH"), *([("sk", "RANGE")] if sort_key else [])]
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in keys],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key, _ in keys],
        BillingMode="PAY_PER_REQUEST",
    )
    return name
