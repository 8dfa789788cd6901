"""Keeps the log: the newest of every subject in a table, and from that each month's page in the bucket.

The table decides (one transaction a change, which an older or repeated webhook does not pass); a page is only a picture
of it, rewritten by every delivery until it fits, so that a crash in between is repaired by the retry.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import msgspec
from botocore.exceptions import ClientError

from offload.contracts.backoff import full_jitter
from shop.change_log import page_key

from .changes import Change, Entry
from .page import page_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

_ResultT = TypeVar("_ResultT")

_ATTEMPTS: Final = 10
_FIRST_PAUSE: Final = 0.02  # seconds
_LONGEST_PAUSE: Final = 0.5  # seconds
_LOST: Final = frozenset(
    {
        "ConditionalCheckFailed",
        "TransactionConflict",
        "PreconditionFailed",  # the page is not what it was
        "ConditionalRequestConflict",  # another writes it at the moment
        "NoSuchKey",  # it was deleted
    }
)


class Contended(Exception):
    """Others won every race for an item or a page; the webhook's retry has another try."""


class _Known(NamedTuple):
    """What the table has of a subject: its version, its entry's key, and every month that it was ever said to be in."""

    version: str = ""
    place: dict[str, Any] | None = None
    months: frozenset[str] = frozenset()


class ChangeLog:
    """The log in a table and a bucket.

    A subject's item (pk the subject, sk `subject`) has its version; its entry is an item of its month's (pk
    `month#2026-11`, sk time and subject), so that one query gives a month in its order.
    """

    def __init__(self, table: str, bucket: str, *, dynamodb: DynamoDBClient, s3: S3Client) -> None:
        self._table, self._bucket = table, bucket
        self._dynamodb, self._s3 = dynamodb, s3

    def take(self, change: Change) -> None:
        """Takes a change, and brings the pages of its subject up to date; doing it again changes nothing.

        Raises Contended.
        """
        for month in sorted(_until_won(lambda: self._keep(change))):
            _until_won(lambda month=month: self._show(month))  # type: ignore[misc]

    def entries(self, month: str) -> list[Entry]:
        """The entries of a month, by their time."""
        found: list[Entry] = []
        request: Any = {
            "TableName": self._table,
            "KeyConditionExpression": "pk = :pk",
            "ExpressionAttributeValues": {":pk": {"S": f"month#{month}"}},
            "ConsistentRead": True,
        }
        while True:
            answer = self._dynamodb.query(**request)
            found += [msgspec.json.decode(item["entry"]["S"], type=Entry) for item in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _keep(self, change: Change) -> frozenset[str]:
        """Writes the change, unless a newer one is there; returns the months whose pages may have to follow."""
        known = self._known(change.subject)
        months = known.months | ({change.month} if change.month else set())
        newer = change.version > known.version
        if newer or months != known.months:
            place = known.place
            actions: list[Any] = []
            if newer:
                place = _place(change)
                if known.place and known.place != place:
                    actions.append({"Delete": {"TableName": self._table, "Key": known.place}})
                if place and change.entry:
                    entry = {"S": msgspec.json.encode(change.entry).decode()}
                    actions.append({"Put": {"TableName": self._table, "Item": {**place, "entry": entry}}})
            now = _Known(change.version if newer else known.version, place, months)
            actions.append(self._put(change.subject, known, now))
            self._dynamodb.transact_write_items(TransactItems=actions)
        return months

    def _known(self, subject: str) -> _Known:
        item = self._dynamodb.get_item(TableName=self._table, Key=_key(subject), ConsistentRead=True).get("Item")
        if item is None:
            return _Known()
        place = item["place"]["M"] if "place" in item else None
        return _Known(item["version"]["S"], dict(place) if place else None, frozenset(item["months"]["SS"]) - {"-"})

    def _put(self, subject: str, known: _Known, now: _Known) -> dict[str, Any]:
        # A set is never empty in DynamoDB.
        item: dict[str, Any] = {
            **_key(subject),
            "version": {"S": now.version},
            "months": {"SS": sorted(now.months) or ["-"]},
        }
        if now.place:
            item["place"] = {"M": now.place}
        put: dict[str, Any] = {
            "TableName": self._table,
            "Item": item,
            "ConditionExpression": "attribute_not_exists(pk)",
        }
        if known.version:
            put["ConditionExpression"] = "version = :version AND months = :months"
            put["ExpressionAttributeValues"] = {
                ":version": {"S": known.version},
                ":months": {"SS": sorted(known.months) or ["-"]},
            }
        return {"Put": put}

    def _show(self, month: str) -> None:
        """Writes the month's page from its entries, where it is another.

        The page is read before the entries and replaced only where it is still that one: what was read later wins. An
        ETag is its content's, so a page can come back to what it was meanwhile; hence the second look at the entries.
        """
        while True:
            found, condition = self._page(month)
            entries = self.entries(month)
            page = page_of(month, entries).encode()
            if page == found:
                return
            self._s3.put_object(
                Bucket=self._bucket,
                Key=page_key(month),
                Body=page,
                ContentType="text/markdown; charset=utf-8",
                **condition,
            )
            if self.entries(month) == entries:
                return

    def _page(self, month: str) -> tuple[bytes | None, dict[str, Any]]:
        """The page as it is, and the condition that it still is."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=page_key(month))
        except self._s3.exceptions.NoSuchKey:
            return None, {"IfNoneMatch": "*"}
        with answer["Body"] as body:
            return body.read(), {"IfMatch": answer["ETag"]}


def _key(subject: str) -> dict[str, Any]:
    return {"pk": {"S": subject}, "sk": {"S": "subject"}}


def _place(change: Change) -> dict[str, Any] | None:
    if change.entry is None or change.month is None:
        return None
    at = change.entry.at.isoformat(timespec="microseconds")
    return {"pk": {"S": f"month#{change.month}"}, "sk": {"S": f"{at}#{change.subject}"}}


def _until_won(act: Callable[[], _ResultT]) -> _ResultT:
    """Does it again while others come first."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return act()
        except ClientError as error:
            if not _codes(error) <= _LOST:
                raise
            lost = error
        time.sleep(full_jitter(attempt, base=_FIRST_PAUSE, cap=_LONGEST_PAUSE))
    raise Contended(f"others came first {_ATTEMPTS} times") from lost


def _codes(error: ClientError) -> set[str]:
    """Why AWS refused: of a transaction, what was wrong with its actions."""
    reasons: Any = error.response.get("CancellationReasons", ())
    return {why["Code"] for why in reasons if why.get("Code", "None") != "None"} or {error.response["Error"]["Code"]}
