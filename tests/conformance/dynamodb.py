"""DynamoDB."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from tests.conformance.behaviour import Differs, behaviour
from tests.conformance.oracle import Oracle, refusal, until

GUIDE = "amazondynamodb/latest/developerguide"
API = "amazondynamodb/latest/APIReference"
READ = "2026-11-29"
ITEM_LIMIT = 409_600  # bytes, names included
TABLES = "offload/runtime/tables.py"
CONSUMER = "offload/runtime/events/consumer.py"


def a_table(aws: Oracle) -> str:
    """The table that all of them share; each has keys of its own."""
    return aws.shared("table", lambda: aws.table(index=True))


def key(aws: Oracle, sort: str = "a") -> dict[str, Any]:
    return {"pk": {"S": aws.name()}, "sk": {"S": sort}}


def put(table: str, item: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"Put": {"TableName": table, "Item": item, **more}}


@behaviour(
    "A cancelled transaction writes nothing, and gives a reason for each action in the order of the actions",
    document=f"{API}/API_TransactWriteItems.html",
    read=READ,
    relied=(CONSUMER, TABLES),
    expected=[["None", "ConditionalCheckFailed", "None"], None, {"S": "before"}],
)
def transaction_cancelled(aws: Oracle) -> Any:
    dynamodb, table = aws.client("dynamodb"), a_table(aws)
    first, taken, last = key(aws), key(aws), key(aws)
    dynamodb.put_item(TableName=table, Item=taken | {"was": {"S": "before"}})
    reasons: list[Any] = []
    try:
        dynamodb.transact_write_items(
            TransactItems=[
                put(table, first),
                put(
                    table,
                    taken,
                    ConditionExpression="attribute_not_exists(pk)",
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ),
                put(table, last),
            ]
        )
    except dynamodb.exceptions.TransactionCanceledException as error:
        reasons = error.response["CancellationReasons"]
    written = dynamodb.get_item(TableName=table, Key=first, ConsistentRead=True).get("Item")
    return [[each["Code"] for each in reasons], written, reasons[1].get("Item", {}).get("was")]


@behaviour(
    "A failed condition with ALL_OLD answers with the item that is there, and leaves it",
    document=f"{API}/API_UpdateItem.html",
    read=READ,
    relied=("offload/runtime/http/breaker.py", "offload/runtime/jobs/submitting.py", "offload/runtime/http/rate.py"),
    expected=["ConditionalCheckFailedException", {"N": "7"}, {"N": "7"}],
)
def condition_fails(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), key(aws)
    dynamodb.put_item(TableName=table, Item=name | {"n": {"N": "7"}})
    answer: Any = {}
    try:
        dynamodb.update_item(
            TableName=table,
            Key=name,
            UpdateExpression="SET n = :new",
            ConditionExpression="n < :new",
            ExpressionAttributeValues={":new": {"N": "5"}},
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except ClientError as error:
        answer = error.response
    there = dynamodb.get_item(TableName=table, Key=name, ConsistentRead=True)["Item"]
    return [answer["Error"]["Code"], answer["Item"]["n"], there["n"]]


@behaviour(
    "A transaction with the same ClientRequestToken is done once within ten minutes (botocore sends one with each"
    " try); another transaction with that token is refused",
    document=f"{API}/API_TransactWriteItems.html",
    read=READ,
    relied=(CONSUMER, TABLES),
    expected=[{"N": "1"}, "IdempotentParameterMismatchException"],
)
def transaction_is_idempotent(aws: Oracle) -> Any:
    dynamodb, table, name, token = aws.client("dynamodb"), a_table(aws), key(aws), aws.name()[-36:]

    def add(number: str) -> dict[str, Any]:
        return {
            "TransactItems": [
                {
                    "Update": {
                        "TableName": table,
                        "Key": name,
                        "UpdateExpression": "ADD n :n",
                        "ExpressionAttributeValues": {":n": {"N": number}},
                    }
                }
            ],
            "ClientRequestToken": token,
        }

    for _ in range(2):
        dynamodb.transact_write_items(**add("1"))
    other = refusal(dynamodb.transact_write_items, **add("2"))
    return [dynamodb.get_item(TableName=table, Key=name, ConsistentRead=True)["Item"]["n"], other]


@behaviour(
    "A transaction has at most 100 actions, and no two on one item",
    document=f"{API}/API_TransactWriteItems.html",
    read=READ,
    relied=(CONSUMER, "offload/runtime/webhooks_out/deliveries.py"),
    expected=[None, "ValidationException", "ValidationException"],
)
def transaction_of_a_hundred(aws: Oracle) -> Any:
    dynamodb, table = aws.client("dynamodb"), a_table(aws)
    name = aws.name()
    items = [put(table, {"pk": {"S": name}, "sk": {"S": str(number)}}) for number in range(101)]
    return [
        refusal(dynamodb.transact_write_items, TransactItems=items[:100]),
        refusal(dynamodb.transact_write_items, TransactItems=items),
        refusal(dynamodb.transact_write_items, TransactItems=items[:1] * 2),
    ]


@behaviour(
    "An item holds 400 KB (409,600 bytes) with the names of its attributes; one more is refused",
    document=f"{GUIDE}/Constraints.html",
    read="2026-11-24",
    relied=("offload/runtime/jobs/ending.py", "offload/runtime/webhooks_in/deliveries.py"),
    expected=[None, "ValidationException"],
)
def item_of_400_kb(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), key(aws)
    rest = ITEM_LIMIT - sum(len(each) + len(value["S"]) for each, value in name.items()) - len("data")
    return [
        refusal(dynamodb.put_item, TableName=table, Item=name | {"data": {"S": "a" * size}})
        for size in (rest, rest + 1)
    ]


@behaviour(
    "A partition key has at most 2,048 bytes, a sort key 1,024",
    document=f"{GUIDE}/Constraints.html",
    read=READ,
    relied=("offload/runtime/webhooks_out/items.py", CONSUMER),
    expected=[None, "ValidationException", None, "ValidationException"],
)
def key_sizes(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), aws.name()

    def tried(partition: int, sort: int) -> str | None:
        item = {"pk": {"S": name.ljust(partition, "p")}, "sk": {"S": "s" * sort}}
        return refusal(dynamodb.put_item, TableName=table, Item=item)

    return [tried(2048, 1), tried(2049, 1), tried(100, 1024), tried(100, 1025)]


@behaviour(
    "BatchGetItem takes 100 keys, and answers with UnprocessedKeys beyond 16 MB, or 1 MB of one partition",
    document=f"{API}/API_BatchGetItem.html",
    read=READ,
    relied=(TABLES, "offload/cli/audit/events.py", "offload/cli/webhooks_in/received.py"),
    expected=["ValidationException", "some are left, and read by further calls"],
    differs={
        "embedded": Differs(
            ["ValidationException", "none is left"],
            "it answers with any size; what is left is read again in tests with a client that leaves some",
        )
    },
)
def batch_get(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), aws.name()
    keys = [{"pk": {"S": f"{name}-{number}"}, "sk": {"S": "a"}} for number in range(101)]
    too_many = refusal(dynamodb.batch_get_item, RequestItems={table: {"Keys": keys}})
    of_16_mb = keys[:43]  # of 390 KB
    for each in of_16_mb:
        dynamodb.put_item(TableName=table, Item=each | {"data": {"S": "a" * 390_000}})
    answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": of_16_mb}})
    left = answer["UnprocessedKeys"].get(table, {}).get("Keys", [])
    if not left:
        return [too_many, "none is left"]
    got = len(answer["Responses"][table])
    for _ in of_16_mb:
        if not left:
            break
        answer = dynamodb.batch_get_item(RequestItems={table: {"Keys": left}})
        got += len(answer["Responses"][table])
        left = answer["UnprocessedKeys"].get(table, {}).get("Keys", [])
    return [too_many, "some are left, and read by further calls" if got == len(of_16_mb) else f"{got} in all"]


@behaviour(
    "A page of a query ends at 1 MB with LastEvaluatedKey; a filter takes effect after that",
    document=f"{GUIDE}/Query.Pagination.html",
    read=READ,
    relied=("offload/runtime/webhooks_in/deliveries.py",),
    expected=[True, 0, True, 4],
)
def query_pages(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), aws.name()
    for number in range(4):
        item = {"pk": {"S": name}, "sk": {"S": str(number)}, "data": {"S": "a" * 390_000}}
        dynamodb.put_item(TableName=table, Item=item)
    query = {
        "TableName": table,
        "KeyConditionExpression": "pk = :pk",
        "FilterExpression": "attribute_not_exists(#data)",
        "ExpressionAttributeNames": {"#data": "data"},
        "ExpressionAttributeValues": {":pk": {"S": name}},
    }
    first = dynamodb.query(**query)
    second = dynamodb.query(**query, ExclusiveStartKey=first["LastEvaluatedKey"]) if "LastEvaluatedKey" in first else {}
    scanned = first["ScannedCount"] + second.get("ScannedCount", 0)
    return ["LastEvaluatedKey" in first, first["Count"], first["ScannedCount"] < 4, scanned]


@behaviour(
    "A global secondary index is read eventually: a consistent read of it is refused, and what was written is in it"
    " after a while",
    document=f"{API}/API_Query.html",
    read=READ,
    relied=("offload/runtime/jobs/listing.py", "offload/runtime/webhooks_out/deliveries.py"),
    expected=["ValidationException", 1],
)
def index_is_eventual(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), aws.name()
    dynamodb.put_item(TableName=table, Item=key(aws) | {"kind": {"S": name}})
    query = {
        "TableName": table,
        "IndexName": "by_kind",
        "KeyConditionExpression": "kind = :kind",
        "ExpressionAttributeValues": {":kind": {"S": name}},
    }
    found = until(lambda: dynamodb.query(**query)["Items"])
    return [refusal(dynamodb.query, **query, ConsistentRead=True), len(found or [])]


@behaviour(
    "ADD to an item that does not exist makes it, and counts from 0",
    document=f"{API}/API_UpdateItem.html",
    read=READ,
    relied=("offload/runtime/events/sums.py",),
    expected={"N": "5"},
)
def add_makes(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), key(aws)
    answer = dynamodb.update_item(
        TableName=table,
        Key=name,
        UpdateExpression="ADD n :n",
        ExpressionAttributeValues={":n": {"N": "5"}},
        ReturnValues="ALL_NEW",
    )
    return answer["Attributes"]["n"]


@behaviour(
    "A number has up to 38 digits, exactly; one more is refused",
    document=f"{GUIDE}/HowItWorks.NamingRulesDataTypes.html",
    read=READ,
    relied=("offload/runtime/events/sums.py",),
    expected=["9" * 38, "ValidationException"],
)
def numbers(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), key(aws)
    dynamodb.put_item(TableName=table, Item=name | {"n": {"N": "9" * 38}})
    kept = dynamodb.get_item(TableName=table, Key=name, ConsistentRead=True)["Item"]["n"]["N"]
    return [kept, refusal(dynamodb.put_item, TableName=table, Item=name | {"n": {"N": "9" * 39}})]


@behaviour(
    "In an update's condition contains() finds a member of a string set and size() counts its members; ADD makes the"
    " set, and ALL_OLD answers with what was there before",
    document=f"{GUIDE}/Expressions.OperatorsAndFunctions.html",
    read="2026-11-30",
    relied=("offload/runtime/webhooks_in/deliveries.py",),
    expected=[{}, {"SS": ["one"]}, "ConditionalCheckFailedException", {"SS": ["one"]}],
)
def sets_in_conditions(aws: Oracle) -> Any:
    dynamodb, table, name = aws.client("dynamodb"), a_table(aws), key(aws)

    def add(member: str) -> Any:
        answer = dynamodb.update_item(
            TableName=table,
            Key=name,
            UpdateExpression="ADD members :set",
            ConditionExpression="attribute_not_exists(members) OR contains(members, :one) OR size(members) < :most",
            ExpressionAttributeValues={":set": {"SS": [member]}, ":one": {"S": member}, ":most": {"N": "1"}},
            ReturnValues="ALL_OLD",
        )
        return answer.get("Attributes", {}).get("members", {})

    return [
        add("one"),
        add("one"),
        refusal(lambda: add("two")),
        dynamodb.get_item(TableName=table, Key=name, ConsistentRead=True)["Item"]["members"],
    ]
