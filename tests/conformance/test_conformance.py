"""Each behaviour on each oracle that can tell: the embedded AWS, moto's server, or, where it was asked for, an account.

What an oracle does otherwise than AWS is asserted too: when it changes, its declaration in `differs` goes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.local.process import Instance
from tests.conformance import oracle, table
from tests.conformance.account import CALLS_AT_MOST, ENVIRONMENT_VARIABLE
from tests.conformance.behaviour import Where
from tests.conformance.oracle import Oracle
from tests.conformance.table import every

ON_ENVIRONMENT = os.environ.get(ENVIRONMENT_VARIABLE)
"""The environment that `make conformance` asks; unset in `make test`."""


@pytest.fixture(scope="session")
def embedded(emulator: Instance) -> Iterator[Oracle]:
    asked = oracle.of(Aws(LOCAL, emulator))
    try:
        yield asked
    finally:
        asked.close()


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    with oracle.moto(tmp_path_factory.mktemp("moto")) as asked:
        yield asked


@pytest.fixture(scope="session")
def environment() -> Iterator[Oracle]:
    assert ON_ENVIRONMENT
    asked = oracle.of(Aws.of(ON_ENVIRONMENT))
    try:
        yield asked
    finally:
        asked.close()
        print(f"\n{asked.calls} calls; everything named {asked.prefix}-* is removed")


CASES = [
    pytest.param("environment" if ON_ENVIRONMENT else where, behaviour.id, id=f"{behaviour.id}-{where}")
    for behaviour in every()
    for where in behaviour.on
    if (where == "account") == bool(ON_ENVIRONMENT)
]


@pytest.mark.parametrize(("where", "name"), CASES)
def test_it_behaves_as_its_document_says_or_differs_as_declared(
    where: str, name: str, request: pytest.FixtureRequest
) -> None:
    asked: Oracle = request.getfixturevalue(where)
    behaviour = next(each for each in every() if each.id == name)
    observed = behaviour.observe(asked)
    differs = behaviour.differs.get(asked.where)
    if differs is None:
        assert observed == behaviour.expected, f"{behaviour.says} ({behaviour.document}, read {behaviour.read})"
    else:
        assert observed != behaviour.expected, f"{asked.where} does as AWS does by now: take its `differs` away"
        assert observed == differs.observed
    assert asked.calls <= CALLS_AT_MOST, "more calls than `make conformance` says"


def test_the_page_is_as_the_declarations_say() -> None:
    assert table.PAGE.read_text(encoding="utf-8") == table.page(), "run: .venv/bin/python -m tests.conformance.table"


@pytest.mark.parametrize("behaviour", every(), ids=lambda behaviour: str(behaviour.id))
def test_each_is_relied_on_by_files_that_exist_and_has_a_page_of_aws(behaviour: table.Behaviour) -> None:
    assert behaviour.relied
    for path in behaviour.relied:
        assert (table.PROJECT / path).is_file(), path
    assert behaviour.document.startswith("https://docs.aws.amazon.com/")
    assert behaviour.document.endswith(".html")
    unknown: set[Where] = set(behaviour.differs) - set(behaviour.on)
    assert not unknown
    assert "account" not in behaviour.differs, "what AWS does is what is expected"
