"""What our stores do with DynamoDB, when it is busy."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from offload.runtime import aws
from offload.runtime.refusals import Contended
from offload.runtime.tables import batch_get, transact


class Cancelled(Exception):
    def __init__(self, *codes: str) -> None:
        self.response = {"CancellationReasons": [{"Code": code} for code in codes]}


class Busy:
    """A client that answers with what it was given, one after the other, and keeps what it was asked."""

    exceptions = SimpleNamespace(TransactionCanceledException=Cancelled)

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def _next(self, asked: Any) -> Any:
        self.asked.append(asked)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def transact_write_items(self, TransactItems: Any) -> Any:  # noqa: N803 -- AWS's name
        return self._next(TransactItems)

    def batch_get_item(self, RequestItems: Any) -> Any:  # noqa: N803 -- AWS's name
        return self._next(RequestItems)


def busy(monkeypatch: pytest.MonkeyPatch, *answers: Any) -> Busy:
    client = Busy(*answers)
    monkeypatch.setattr(aws, "dynamodb", lambda: client)
    return client


def test_a_transaction_that_met_another_is_tried_again_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    busy(monkeypatch, Cancelled("None", "TransactionConflict"), Cancelled("ThrottlingError", "None"), {})
    pauses: list[float] = []
    assert transact([1, 2], table="table", sleep=pauses.append, uniform=lambda _, high: high) == []
    assert pauses == [0.01, 0.02]


def test_a_condition_that_failed_is_told_action_by_action(monkeypatch: pytest.MonkeyPatch) -> None:
    busy(monkeypatch, Cancelled("None", "ConditionalCheckFailed"))
    assert [why["Code"] for why in transact([1, 2], table="table")] == ["None", "ConditionalCheckFailed"]


def test_what_no_repetition_mends_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    busy(monkeypatch, Cancelled("ValidationError"))
    with pytest.raises(Cancelled):
        transact([1], table="table")


def test_a_table_that_is_busy_each_time_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    busy(monkeypatch, *[Cancelled("TransactionConflict")] * 8)
    with pytest.raises(Contended, match="the table of things is busy"):
        transact([1], table="table of things", sleep=lambda _: None)


def test_keys_that_were_throttled_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [{"pk": {"S": str(number)}} for number in range(150)]
    client = busy(
        monkeypatch,
        {"Responses": {"t": keys[:90]}, "UnprocessedKeys": {"t": {"Keys": keys[90:100]}}},
        {"Responses": {"t": keys[90:]}, "UnprocessedKeys": {}},
    )
    assert list(batch_get("t", keys, attributes="pk")) == keys
    assert [len(asked["t"]["Keys"]) for asked in client.asked] == [100, 60]
