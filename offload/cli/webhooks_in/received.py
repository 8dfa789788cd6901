"""Webhooks of a deployment: what came, what was refused and why, and what never came.

All of it is read from the table of deliveries (`offload/runtime/webhooks_in/deliveries.py`). It holds no body once the
bus has the event, and no signature ever. Answers 429 and 5xx are in the receiver's log alone.
"""

from __future__ import annotations

import base64
import heapq
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from offload.cli.catalogue import catalogue
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.contracts.webhooks_in.received import PREFIX, id_key
from offload.contracts.webhooks_in.scheme import Header, Provider
from offload.contracts.webhooks_in.shards import SHARDS, listed_in, owed_in
from offload.contracts.webhooks_in.stored_secret import SecretDocument, StoredSecret
from offload.runtime.tables import batch_get
from offload.runtime.webhooks_in.secrets import BadSecret, Secret, keyring

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from offload.cli.deployment.resources import WebhookEntry

OVERDUE: Final = timedelta(minutes=5)
"""The relay looks each minute: what the bus has not got this long after it was stored is overdue."""
DAY: Final = timedelta(hours=24)

_FIRST: Final = 0  # milliseconds since 1970
_PAGE: Final = 100
# botocore keeps so many connections to a service; the embedded AWS's client 32.
_QUERIES_AT_ONCE: Final = 10
# A day of a busy sender; more are not read for a table of figures, nor for an id that may be mistyped.
_MOST_COUNTED: Final = 100_000
# A sender's list may begin with a redelivery of what it first sent before (GitHub: of the last 3 days, recalled).
_BEFORE_THE_LIST: Final = timedelta(days=7)
# What says nothing to people, or is not for them: a receipt proves who wrote an item.
_NOT_SHOWN: Final = frozenset({"pk", "sk", "shown", "listed", "receipt", "owed", "owed_at", "entry"})

Item: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Came:
    """One delivery or refusal, as the index `recent` has it.

    `id` is a delivery's key or a refusal's own id: `offload webhooks show` takes it. `stack` is that of the ingress.
    """

    id: str
    at: datetime
    provider: str
    outcome: str
    stack: str
    reason: str = ""
    status: int | None = None
    event_type: str = ""
    event_id: str = ""
    delivery_id: str = ""
    source: str = ""
    endpoint: str = ""
    key_id: str = ""
    duplicates: int = 0
    published_at: datetime | None = None
    after_rotation: bool = False

    @property
    def owed(self) -> bool:
        """Whether it is stored, and the bus has not got it yet."""
        return self.outcome == "accepted" and self.published_at is None

    def matches(self, outcome: str) -> bool:
        """Whether it is `accepted`, `refused`, `duplicate`, `owed`, or refused for this reason."""
        match outcome:
            case "owed":
                return self.owed
            case "duplicate":
                return self.duplicates > 0
            case _:
                return outcome in {self.outcome, self.reason}

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "at": _iso(self.at), "published_at": _iso(self.published_at), "owed": self.owed}


@dataclass(frozen=True)
class Figures:
    """What came within a time; `complete` is false when it was more than is counted."""

    accepted: int = 0
    duplicates: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    complete: bool = True


@dataclass(frozen=True)
class Overview:
    """One provider of a stack: its active secrets without their values, what is wrong with them, and its last day."""

    stack: str
    provider: Provider
    url: str
    secrets: tuple[StoredSecret, ...]
    troubles: tuple[str, ...]
    last_day: Figures
    owed: int


class Owed(NamedTuple):
    """A webhook that was stored, `since` when, and is not on the bus; `stack` is that of its ingress."""

    provider: str
    key: str
    since: datetime
    stack: str


def ingresses_of(deployment: Deployment, provider: str | None, stack: str | None = None) -> tuple[WebhookEntry, ...]:
    """The ingresses that are open for a provider (None: for any), or of these that of a stack.

    Raises Failure, with the names there are, where there is none.
    """
    among = deployment.ingresses(stack)
    found = tuple(each for each in among if provider is None or provider in each.providers)
    if found:
        return found
    names = ", ".join(sorted({name for each in among for name in each.providers})) or "none"
    where = f"stack {among[0].stack}" if stack else f"environment {deployment.environment}"
    raise Failure(f"{where} has no webhook provider '{provider}': {names}")


def ingress_of(deployment: Deployment, provider: str, stack: str | None = None) -> WebhookEntry:
    """The ingress that a provider's webhooks come in by; raises Failure where several stacks have the provider."""
    found = ingresses_of(deployment, provider, stack)
    return deployment.chosen(found, None, f"receives webhooks of '{provider}' in")


def provider_of(deployment: Deployment, name: str) -> Provider:
    """A deployed provider; raises Failure with the names there are."""
    ingresses_of(deployment, name)
    if name not in catalogue().providers:
        raise Failure(
            f"environment {deployment.environment} was deployed with the webhook provider '{name}', which the catalogue"
            " of this checkout does not have: use the commit that was deployed"
        )
    return catalogue().providers[name]


def overviews(deployment: Deployment, *, now: datetime | None = None) -> tuple[Overview, ...]:
    """Every deployed provider, of each stack that receives its webhooks."""
    moment = now or datetime.now(UTC)
    owing = Counter((each.stack, each.provider) for each in owed(deployment, before=moment))
    found = []
    for entry in deployment.ingresses():
        text = deployment.aws.secrets_manager.get_secret_value(SecretId=entry.secret).get("SecretString", "")
        for name in entry.providers:
            provider = provider_of(deployment, name)
            secrets, troubles = _secrets(provider, text, moment)
            day = _figures(deployment.aws.dynamodb, entry, name, moment - DAY)
            owes = owing[entry.stack, name]
            found.append(Overview(entry.stack, provider, entry.url(name), secrets, troubles, day, owes))
    return tuple(found)


def recent(
    deployment: Deployment,
    *,
    provider: str | None = None,
    outcome: str | None = None,
    since: datetime | None = None,
    limit: int,
    stack: str | None = None,
) -> list[Came]:
    """What came, over all stacks and providers or of one, newest first.

    Raises Failure for a provider that is not deployed, and for a stack without an ingress.
    """
    client = deployment.aws.dynamodb
    streams = []
    for entry in ingresses_of(deployment, provider, stack):
        names = entry.providers if provider is None else [provider_of(deployment, provider).name]
        streams.append(zip(_newest_first(client, entry.table, names, since), repeat(entry.stack)))
    found = heapq.merge(*streams, key=lambda each: each[0]["listed"]["S"], reverse=True)
    return list(islice((came for each in found if _is(came := _came(*each), outcome)), limit))


def find(deployment: Deployment, id_: str, *, stack: str | None = None) -> dict[str, Any]:
    """One delivery or refusal whole, without secret and signature; raises Failure when there is none, or several.

    `id_` is an event's id, a delivery's key or the sender's delivery id, or a refusal's id. Of what is still owed to
    the bus the `event` is there too. `stack`, the ingress's, is told where it is not given.
    """
    entries, client = deployment.ingresses(stack), deployment.aws.dynamodb
    found = [(entry, item) for entry in entries for item in _by_key(client, entry, id_)]
    if not found:
        found = [(entry, item) for entry in entries for item in _by_delivery_id(client, entry, id_)]
    if not found:
        raise Failure(
            f"environment {deployment.environment} knows no webhook '{id_}': type the sender's delivery id, an event "
            "id, or a refusal's id, as `offload webhooks recent` shows them (refusals are kept for 7 days)"
        )
    if len(found) > 1:
        stacks = list(dict.fromkeys(entry.stack for entry, _ in found))
        if len(stacks) == len(found):
            raise Failure(f"'{id_}' came in {len(found)} stacks: name one by --stack NAME, of {', '.join(stacks)}")
        ids = " or ".join(item["event_id"]["S"] for _, item in found if "event_id" in item)
        raise Failure(f"'{id_}' is the id of {len(found)} webhooks: type the event id of one, {ids}")
    [(entry, item)] = found
    return {**_whole(item), "stack": entry.stack}


def owed(deployment: Deployment, *, before: datetime) -> Iterator[Owed]:
    """What was stored before a time and is not on the bus, over all stacks, the oldest first."""
    streams = [_owed_in(deployment.aws.dynamodb, entry, before) for entry in deployment.webhook_entries]
    return heapq.merge(*streams, key=lambda each: each.since)


# -- what never came


@dataclass(frozen=True)
class Sent:
    """A delivery as the sender's list has it; `answered` is the status that the sender got, `listed_id` the list's."""

    delivery_id: str
    delivered_at: datetime | None = None
    event: str = ""
    answered: int | None = None
    listed_id: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**vars(self), "delivered_at": _iso(self.delivered_at)}


@dataclass(frozen=True)
class Comparison:
    """A sender's list beside ours: how many deliveries it has, and which of them we do not have."""

    listed: int
    missing: tuple[Sent, ...]


Listed: TypeAlias = Mapping[str, Any] | str


def missing(
    deployment: Deployment,
    provider: str,
    deliveries: Iterable[Listed] | Callable[[], Iterable[Listed]],
    *,
    endpoint: str | None = None,
    stack: str | None = None,
) -> Comparison:
    """Which of the deliveries that a sender's API lists we do not have, by the sender's delivery id.

    `deliveries` is what the API gives, or a function that fetches it: delivery ids, or objects with the id in `guid`,
    `delivery_id` or `id` (the first that is there), of which `delivered_at`, `event`, `action` and `status_code` are
    read too. GitHub: `GET /repos/OWNER/REPO/hooks/HOOK/deliveries`. Redeliveries count once, by the last of them.

    Of a sender that signs no id (GitHub, Shopify) we remember a body with the first twenty ids under which it came. One
    more is named here as missing, though it was answered `duplicate`: having it sent again does no harm. Two hooks of
    such a sender may send one event under one id (GitHub, of a repository and of its organization): `endpoint` is that
    of the hook whose list it is, the empty text for none, and what came to others does not count.

    Raises Failure for a list that cannot be read, for an `endpoint` where the sender signs ids, and for a provider of
    several stacks without a `stack`.
    """
    entry, client = ingress_of(deployment, provider, stack), deployment.aws.dynamodb
    scheme = provider_of(deployment, provider)
    if endpoint is not None and not _is_unsigned(scheme):
        raise Failure(
            f"--endpoint: {scheme.title} signs the ids of deliveries, each of which is kept once: leave it out"
        )
    newest: dict[str, Sent] = {}
    for number, each in enumerate(deliveries() if callable(deliveries) else deliveries, 1):
        sent = _sent(each, number)
        before = newest.get(sent.delivery_id)
        if before is None or _later(sent, before):
            newest[sent.delivery_id] = sent
    left = set(newest) - _known_by_key(client, entry.table, scheme, newest)
    if left and _is_unsigned(scheme):
        left -= _known_by_index(client, entry.table, provider, [newest[each] for each in left], endpoint)
    return Comparison(len(newest), tuple(newest[each] for each in newest if each in left))


def read_listed(text: str) -> list[Listed]:
    """What a file with a sender's list holds: JSON arrays or objects, one after the other, or an id a line.

    Raises Failure.
    """
    if text.lstrip()[:1] not in {"[", "{", '"'}:
        return [line.strip() for line in text.splitlines() if line.strip()]
    decoder, at, found = json.JSONDecoder(), 0, list[Any]()
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
        except (ValueError, RecursionError) as error:
            if not text[at:].strip():
                break
            raise Failure(f"--deliveries: value {len(found) + 1} is no JSON: {error}") from error
        found.append(value)
    return list(_flat(found))


def _flat(values: Sequence[Any]) -> Iterator[Listed]:
    for each in values:
        if isinstance(each, list):
            yield from _flat(each)
        else:
            yield each


def _sent(listed: Listed, number: int) -> Sent:
    if isinstance(listed, str) and listed:
        return Sent(listed)
    if not isinstance(listed, Mapping):
        raise Failure(f"delivery {number} of the list is neither an id nor an object")
    id_ = next((listed[name] for name in ("guid", "delivery_id", "id") if name in listed), None)
    if not isinstance(id_, str) or not id_:
        raise Failure(f"delivery {number} of the list has no text in `guid`, `delivery_id` or `id`")
    at, status = listed.get("delivered_at"), listed.get("status_code")
    names = [str(listed[name]) for name in ("event", "action") if listed.get(name)]
    return Sent(
        delivery_id=id_,
        delivered_at=_read_moment(at, number) if at else None,
        event=".".join(names) or str(listed.get("type") or ""),
        answered=status if isinstance(status, int) and status else None,
        listed_id=str(listed["id"]) if "id" in listed and listed["id"] != id_ else "",
    )


def _read_moment(text: Any, number: int) -> datetime:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise Failure(f"delivery {number} of the list: `delivered_at` is no time: {text}") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _later(one: Sent, other: Sent) -> bool:
    return one.delivered_at is not None and (other.delivered_at is None or one.delivered_at > other.delivered_at)


def _is_unsigned(provider: Provider) -> bool:
    """Whether the sender's delivery id may be in a header that it does not sign."""
    return any(
        isinstance(place, Header) and "{id}" not in scheme.pieces()
        for scheme in provider.schemes
        for parts in scheme.delivery_id
        for place in parts
    )


def _known_by_key(client: DynamoDBClient, table: str, provider: Provider, ids: Iterable[str]) -> set[str]:
    by_pk = {f"delivery#{provider.name}#{id_key(each)}": each for each in ids}
    items = batch_get(table, ({"pk": {"S": pk}, "sk": {"S": "delivery"}} for pk in by_pk), client=client)
    return {by_pk[item["pk"]["S"]] for item in items}


def _known_by_index(
    client: DynamoDBClient, table: str, provider: str, sent: Sequence[Sent], endpoint: str | None
) -> set[str]:
    times = [each.delivered_at for each in sent if each.delivered_at]
    since = min(times) - _BEFORE_THE_LIST if len(times) == len(sent) else None
    left, found = {each.delivery_id for each in sent}, set[str]()
    for item in _newest_first(client, table, [provider], since):
        if endpoint not in (None, item.get("endpoint", {}).get("S", "")):
            continue
        ours = {item.get("delivery_id", {}).get("S", ""), *item.get("other_ids", {}).get("SS", ())} & left
        left -= ours
        found |= ours
        if not left:
            break
    return found


# -- reading the table


def _newest_first(
    client: DynamoDBClient, table: str, providers: Sequence[str], since: datetime | None
) -> Iterator[Item]:
    """Items of these providers in the index `recent`; each shard is read a page at a time, as far as they are taken."""
    shards = [
        _listed(client, table, listed_in(provider, shard), since) for provider in providers for shard in range(SHARDS)
    ]
    return _merged(shards, key=lambda item: item["listed"]["S"], reverse=True)


def _merged(shards: Sequence[Iterator[Item]], *, key: Callable[[Item], Any], reverse: bool = False) -> Iterator[Item]:
    """What shards have, each in its order, in one order; the first page of all is asked for at once."""
    with ThreadPoolExecutor(_QUERIES_AT_ONCE) as pool:
        firsts = list(pool.map(lambda shard: list(islice(shard, 1)), shards))
    whole = [chain(first, rest) for first, rest in zip(firsts, shards, strict=True)]
    return heapq.merge(*whole, key=key, reverse=reverse)


def _owed_in(client: DynamoDBClient, entry: WebhookEntry, before: datetime) -> Iterator[Owed]:
    shards = [_owed(client, entry.table, shard, before) for shard in range(SHARDS)]
    for item in _merged(shards, key=lambda item: int(item["owed_at"]["N"])):
        _, provider, key = item["pk"]["S"].split("#", 2)
        yield Owed(provider, key, _moment(item["owed_at"]), entry.stack)


def _by_key(client: DynamoDBClient, entry: WebhookEntry, id_: str) -> Iterator[Item]:
    """What has this id as an event, a delivery's key or a refusal."""
    for item in batch_get(entry.table, list(_keys(entry, id_)), client=client):
        # What the deliveries of one body have in common is none of them.
        if "outcome" in item:
            yield item


def _by_delivery_id(client: DynamoDBClient, entry: WebhookEntry, id_: str) -> Iterator[Item]:
    """What came under this id of its sender's."""
    keys = [
        {"pk": item["pk"], "sk": item["sk"]}
        for name in entry.providers
        for item in islice(_newest_first(client, entry.table, [name], None), _MOST_COUNTED)
        if item.get("delivery_id", {}).get("S") == id_
    ]
    yield from batch_get(entry.table, keys, client=client)


def _owed(client: DynamoDBClient, table: str, shard: int, before: datetime) -> Iterator[Item]:
    pages = client.get_paginator("query").paginate(
        TableName=table,
        IndexName="owed",
        KeyConditionExpression="owed = :owed AND owed_at < :before",
        ExpressionAttributeValues={":owed": {"S": owed_in(shard)}, ":before": {"N": str(_milliseconds(before))}},
    )
    for page in pages:
        yield from page["Items"]


def _listed(client: DynamoDBClient, table: str, partition: str, since: datetime | None) -> Iterator[Item]:
    pages = client.get_paginator("query").paginate(
        TableName=table,
        IndexName="recent",
        KeyConditionExpression="shown = :shown AND listed >= :since",
        ExpressionAttributeValues={
            ":shown": {"S": partition},
            ":since": {"S": f"{_milliseconds(since) if since else _FIRST:013d}"},
        },
        ScanIndexForward=False,
        PaginationConfig={"PageSize": _PAGE},
    )
    for page in pages:
        yield from page["Items"]


def _keys(entry: WebhookEntry, id_: str) -> Iterator[Item]:
    """Where something of this id may be, if the id is an event's, a delivery's key or a refusal's."""
    if id_.startswith(f"{PREFIX}:") and id_.count(":") > 1:
        _, provider, key = id_.split(":", 2)
        yield {"pk": {"S": f"delivery#{provider}#{key}"}, "sk": {"S": "delivery"}}
        return
    for name in entry.providers:
        key = id_key(id_)
        yield {"pk": {"S": f"delivery#{name}#{key}"}, "sk": {"S": "delivery"}}
        yield {"pk": {"S": f"refused#{name}#{key}"}, "sk": {"S": "refused"}}


def _figures(client: DynamoDBClient, entry: WebhookEntry, provider: str, since: datetime) -> Figures:
    items = _newest_first(client, entry.table, [provider], since)
    accepted = duplicates = counted = 0
    refused = Counter[str]()
    for item in islice(items, _MOST_COUNTED):
        counted += 1
        came = _came(item, entry.stack)
        if came.outcome == "refused":
            refused[came.reason] += 1
        else:
            accepted += 1
            duplicates += came.duplicates
    return Figures(accepted, duplicates, dict(sorted(refused.items())), complete=counted < _MOST_COUNTED)


def _secrets(provider: Provider, text: str, now: datetime) -> tuple[tuple[StoredSecret, ...], tuple[str, ...]]:
    """The active secrets of a document, and what is wrong with those that can verify nothing."""
    try:
        active = SecretDocument.read(text).of(provider.name).active(now)
    except ValueError as error:
        return (), (str(error),)
    troubles = []
    for each in active:
        try:
            keyring(provider, (Secret(each.key_id, each.value),))
        except BadSecret as error:
            troubles.append(str(error))
    return active, tuple(troubles)


def _is(came: Came, outcome: str | None) -> bool:
    return outcome is None or came.matches(outcome)


def _came(item: Item, stack: str) -> Came:
    texts = ("outcome", "reason", "event_type", "event_id", "delivery_id", "source", "endpoint", "key_id")
    return Came(
        id=item["pk"]["S"].split("#", 2)[2],
        at=_moment(item["received_at"]),
        provider=item["shown"]["S"].rpartition("#")[0],
        stack=stack,
        **{name: item[name]["S"] for name in texts if name in item},
        status=int(item["status"]["N"]) if "status" in item else None,
        duplicates=int(item["duplicates"]["N"]) if "duplicates" in item else 0,
        published_at=_moment(item["published_at"]) if "published_at" in item else None,
        after_rotation=item.get("after_rotation", {}).get("BOOL", False),
    )


def _whole(item: Item) -> dict[str, Any]:
    document: dict[str, Any] = {"id": item["pk"]["S"].split("#", 2)[2]}
    for name in sorted(set(item) - _NOT_SHOWN):
        [(kind, value)] = item[name].items()
        document[name] = int(value) if kind == "N" else value
    for name in {"received_at", "published_at", "last_at"} & set(document):
        document[name] = _iso(_moment(item[name]))
    if "expires" in document:
        document["expires"] = _iso(datetime.fromtimestamp(document["expires"], UTC))
    if document["outcome"] == "accepted":
        document["owed"] = "owed" in item
    if "entry" in item:
        packed = item["entry"]["B"]
        content = packed if isinstance(packed, bytes) else base64.b64decode(packed)
        document["event"] = json.loads(zlib.decompress(content))
    return document


def _moment(attribute: Any) -> datetime:
    return datetime.fromtimestamp(int(attribute["N"]) / 1000, UTC)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _iso(moment: datetime | None) -> str | None:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z") if moment else None
