"""The exchange rates that are stored, by day, and what an amount is in another currency."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from botocore.exceptions import ClientError

from shop.ecb import DayRates, working_days

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

STALE_AFTER: Final = 2
"""A rate that is more of the bank's working days than this behind what it is used for is stale."""

_PK: Final = "rates"
_DIFFERING: Final = "differing"
# Sorts after every day.
_LAST: Final = "9"
# ISO 4217, list one: the minor units of currencies that the bank has rates of, where they are not two.
_MINOR_UNITS: Final[Mapping[str, int]] = {"ISK": 0, "JPY": 0, "KRW": 0}
# So far apart the newest day before a period, and one that has both currencies, hardly ever are.
_PAGE: Final = 10


class Stored(NamedTuple):
    """What a file's days came to: new ones, days that were there just so, and days that are stored with other rates."""

    added: tuple[date, ...]
    same: tuple[date, ...]
    differing: tuple[date, ...]


class Differing(NamedTuple):
    """Rates that came for a day that has others: they are kept, and count for nothing."""

    rates: DayRates
    source: str
    came_at: str
    reason: str


class Rate(NamedTuple):
    """The rate that an amount of `day` is converted with: units of the target for one of the source, of `rate_day`."""

    day: date
    rate_day: date
    rate: Decimal

    @property
    def later(self) -> bool:
        """Whether the rate is newer than the day: there was none that is not."""
        return self.rate_day > self.day

    @property
    def behind(self) -> int:
        """How many of the bank's working days up to the day are newer than the rate's."""
        return 0 if self.later else sum(1 for _ in working_days(self.rate_day, self.day))

    @property
    def of_the_day(self) -> bool:
        """Whether it is the day's own rate; of a day without one, that of the working day before it."""
        return not self.later and not self.behind

    @property
    def stale(self) -> bool:
        """Whether it is too far from the day to be taken for its rate."""
        return self.later or self.behind > STALE_AFTER


class RatesTable:
    """Rates in a table: an item a day (pk `rates`, sk `2024-06-28`).

    A day's rates do not change by themselves: what amounts were reported stay what they were. Other rates for a stored
    day are kept beside them (pk `differing`, sk day and hash), with the reason.
    """

    def __init__(self, table: str, client: DynamoDBClient) -> None:
        self._table, self._client = table, client

    def keep(self, days: Sequence[DayRates], *, source: str, at: datetime, replace: bool = False) -> Stored:
        """Stores days; those that are there stay, unless `replace`. Again it is the same."""
        first, last = min(each.day for each in days), max(each.day for each in days)
        there = {each.day: each.rates for each in self.between(first, last)}
        added: list[date] = []
        same: list[date] = []
        differing: list[date] = []
        for each in days:
            rates = there.get(each.day)
            if rates is None and not self._put(each, source, at, replace=False):
                # Another was faster.
                rates = self.between(each.day, each.day)[0].rates
            if rates is None:
                added.append(each.day)
            elif rates == each.rates:
                same.append(each.day)
            else:
                differing.append(each.day)
                reason = "other rates were stored for the day before"
                if replace:
                    # First beside it, then in its place: a crash in between loses neither.
                    self._put_aside(DayRates(each.day, rates), "the table", at, f"replaced by {source}")
                    self._put(each, source, at, replace=True)
                else:
                    self._put_aside(each, source, at, reason)
        return Stored(tuple(added), tuple(same), tuple(differing))

    def newest(self) -> DayRates | None:
        """The newest day."""
        return next(self._descending(_LAST), None)

    def oldest(self) -> DayRates | None:
        """The oldest day."""
        return next(self._query("pk = :pk", {":pk": {"S": _PK}}, limit=1), None)

    def not_after(self, day: date) -> DayRates | None:
        """The newest day that is not after this one."""
        return next(self._descending(day.isoformat()), None)

    def between(self, first: date, last: date) -> list[DayRates]:
        """The days from one to another, both included."""
        return list(
            self._query(
                "pk = :pk AND sk BETWEEN :first AND :last",
                {":pk": {"S": _PK}, ":first": {"S": first.isoformat()}, ":last": {"S": last.isoformat()}},
            )
        )

    def differing(self) -> list[Differing]:
        """What came for days that had other rates, by day."""
        items = self._items("pk = :pk", {":pk": {"S": _DIFFERING}})
        return [
            Differing(
                DayRates(date.fromisoformat(item["sk"]["S"][:10]), _read(item["rates"]["S"])),
                item["source"]["S"],
                item["at"]["S"],
                item["reason"]["S"],
            )
            for item in items
        ]

    def for_days(self, days: Iterable[date], source: str, target: str) -> dict[date, Rate]:
        """For each day the rate from one currency to another: its own, else the newest before, else the oldest after.

        Days without any are left out: then no stored day has both currencies.
        """
        wanted = sorted(set(days))
        if not wanted:
            return {}
        before = self._with(self._descending((wanted[0] - timedelta(days=1)).isoformat()), source, target)
        among = [each for each in self.between(wanted[0], wanted[-1]) if each.cross(source, target) is not None]
        after: DayRates | None = None
        if before is None and (not among or among[0].day > wanted[0]):
            after = self._with(self._ascending(wanted[0]), source, target)
        return rates_of(wanted, [each for each in (before, *among) if each], after, source, target)

    # -- items

    def _put(self, each: DayRates, source: str, at: datetime, *, replace: bool) -> bool:
        item = {"pk": {"S": _PK}, "sk": {"S": each.day.isoformat()}, **_content(each, source, at)}
        condition: Any = {} if replace else {"ConditionExpression": "attribute_not_exists(pk)"}
        try:
            self._client.put_item(TableName=self._table, Item=item, **condition)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def _put_aside(self, each: DayRates, source: str, at: datetime, reason: str) -> None:
        text = _text(each.rates)
        key = f"{each.day.isoformat()}#{sha256(text.encode()).hexdigest()[:16]}"
        item = {"pk": {"S": _DIFFERING}, "sk": {"S": key}, **_content(each, source, at), "reason": {"S": reason}}
        self._client.put_item(TableName=self._table, Item=item)

    def _with(self, found: Iterator[DayRates], source: str, target: str) -> DayRates | None:
        return next((each for each in found if each.cross(source, target) is not None), None)

    def _descending(self, until: str) -> Iterator[DayRates]:
        condition = "pk = :pk AND sk <= :until"
        return self._query(condition, {":pk": {"S": _PK}, ":until": {"S": until}}, limit=_PAGE, forward=False)

    def _ascending(self, since: date) -> Iterator[DayRates]:
        condition = "pk = :pk AND sk >= :since"
        return self._query(condition, {":pk": {"S": _PK}, ":since": {"S": since.isoformat()}}, limit=_PAGE)

    def _query(
        self, condition: str, values: dict[str, Any], *, limit: int | None = None, forward: bool = True
    ) -> Iterator[DayRates]:
        for item in self._items(condition, values, limit=limit, forward=forward):
            yield DayRates(date.fromisoformat(item["sk"]["S"]), _read(item["rates"]["S"]))

    def _items(
        self, condition: str, values: dict[str, Any], *, limit: int | None = None, forward: bool = True
    ) -> Iterator[Mapping[str, Any]]:
        request: Any = {
            "TableName": self._table,
            "KeyConditionExpression": condition,
            "ExpressionAttributeValues": values,
            "ConsistentRead": True,
            "ScanIndexForward": forward,
        }
        if limit is not None:
            request["Limit"] = limit
        while True:
            answer = self._client.query(**request)
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]


def rates_of(
    days: Iterable[date], stored: Sequence[DayRates], after: DayRates | None, source: str, target: str
) -> dict[date, Rate]:
    """For each day the rate of the newest stored day not after it, else that of `after`; `stored` is sorted by day."""
    found: dict[date, Rate] = {}
    position, current = 0, after
    for day in sorted(days):
        while position < len(stored) and stored[position].day <= day:
            current = stored[position]
            position += 1
        rate = current.cross(source, target) if current else None
        if current is not None and rate is not None:
            found[day] = Rate(day, current.day, rate)
    return found


def rounded(amount: Decimal, currency: str) -> Decimal:
    """An amount in the currency's smallest unit, halves away from zero."""
    return amount.quantize(Decimal(1).scaleb(-_MINOR_UNITS.get(currency, 2)), ROUND_HALF_UP) + 0


def _content(each: DayRates, source: str, at: datetime) -> dict[str, Any]:
    return {"rates": {"S": _text(each.rates)}, "source": {"S": source}, "at": {"S": at.isoformat(timespec="seconds")}}


def _text(rates: Mapping[str, Decimal]) -> str:
    return json.dumps({currency: f"{rate:f}" for currency, rate in sorted(rates.items())}, separators=(",", ":"))


def _read(text: str) -> dict[str, Decimal]:
    return {currency: Decimal(rate) for currency, rate in json.loads(text).items()}
