"""What is measured: every function, found by its folder, and for each the usual style's peer.

A function needs no entry here to be measured: its variables are asked of it, and its import is timed. The tables below
give what makes more of it: variables of its own, a first event with its answer, another peer.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import boto3
import msgspec
import uv

from offload.cdk.bundling import Bundler, Target, modules_named_by
from offload.cdk.bundling.bytecode import compile_modules
from offload.cdk.templates import assembly
from offload.contracts.calls import CallSettings, variable_of
from offload.contracts.egress import variables as egress_variables
from offload.contracts.functions import source_of
from offload.contracts.jobs.events import JobWanted
from offload.contracts.webhooks_out.policy import POLICY_VARIABLE, Policy
from offload.project import PROJECT
from shop.catalogue import CATALOGUE
from shop.contracts.github import ReleasePublished
from shop.contracts.stock import StockLow
from shop.orders import SHIPPED_DAY, read_orders
from tests.functions import sources

PYTHON: Final = PROJECT / ".offload" / "embedded" / "bin" / "python"
USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    # The usual style, by its module beside this one: the packages that it installs, as the project pins them.
    "usual_handler": ("aws-lambda-powertools", "pydantic"),
    "usual_receiver": ("aws-lambda-powertools", "pydantic"),
    "usual_durable": ("aws-lambda-powertools", "pydantic", "aws-durable-execution-sdk-python"),
}
PEERS: Final = {"webhook_receiver": "usual_receiver"}
"""Whose peer is not `usual_handler`."""
IN_THE_RUNTIME: Final = ("boto3", "botocore", "s3transfer", "urllib3", "dateutil", "six.py", "jmespath")
"""boto3 and what it brings: the runtime's, on Lambda as here."""
_SECRET: Final = "It's a Secret to Everybody"  # noqa: S105 -- the one in GitHub's documentation

# What a batch of SQS's is answered with when all of it is done.
_ALL_DONE: Final[Mapping[str, Any]] = {"batchItemFailures": []}


@dataclass(frozen=True)
class Case:
    """One function: its bundle's folder, Lambda's handler string, its variables.

    `event` makes its first event, and `answer` is what that is answered with, at least; without an event the import
    alone is measured. `peer` is the usual style's case beside it, None for one of those. `other` is the same bundle
    without bytecode, and of the usual style, which has none, with it.
    """

    name: str
    bundle: Path
    other: Path
    handler: str
    variables: Mapping[str, str]
    event: Callable[[], dict[str, Any]] | None = None
    answer: Mapping[str, Any] | None = None
    peer: str | None = None

    @property
    def size(self) -> int:
        """The bundle's bytes, unzipped."""
        return sum(path.stat().st_size for path in self.bundle.rglob("*") if path.is_file())


def cases(folder: Path) -> list[Case]:
    """The app's functions and the usual style, with what they need in the embedded AWS that boto3 finds."""
    common = _common()
    special = _own_variables(common["OFFLOAD_JOBS_BUCKET"])
    events = _events()
    reaches = _reaches()
    found = []
    for source in sources():
        name = source.rpartition("/")[2]
        bundle = Bundler(PROJECT).bundle(source, Target.of("host", "host"), reaches=reaches.get(source, ()))
        # A table of marks serves one consumer: their events are the same.
        variables = {**common, "OFFLOAD_MARKS_TABLE": _table("marks"), "OFFLOAD_CONSUMER": name, "OFFLOAD_JOB": name}
        variables |= special.get(name, {})
        event, answer = events.get(name, (None, None))
        peer = PEERS.get(name, "usual_handler")
        plain = folder / "plain" / name
        shutil.copytree(bundle.path, plain, ignore=shutil.ignore_patterns("__pycache__"))
        found.append(Case(name, bundle.path, plain, bundle.handler, variables, event, answer, peer))
    usual = {
        "LEDGER_TABLE": common["LEDGER_TABLE"],
        "RECORDS_TABLE": _table("records", key="id", sort_key=False),
        "WEBHOOK_SECRET_NAME": common["WEBHOOK_SECRET_NAME"],
        "BUS_NAME": common["OFFLOAD_BUS"],
        "BUCKET": common["OFFLOAD_JOBS_BUCKET"],
    }
    of_usual = {"usual_handler": (an_order, _ALL_DONE), "usual_receiver": (a_delivery, {"statusCode": 200})}
    for name, packages in USUAL.items():
        event, answer = of_usual.get(name, (None, None))
        plain, compiled = _usual_bundle(folder / name, name, packages), folder / f"{name}-compiled"
        shutil.copytree(plain, compiled)
        compile_modules(compiled, [path.relative_to(compiled).as_posix() for path in compiled.rglob("*.py")])
        found.append(Case(name, plain, compiled, f"{name}.handler", usual, event, answer))
    return found


def _reaches() -> dict[str, tuple[str, ...]]:
    """By function, the modules of the app that its construct names to the bundler: those of its variables."""
    found: dict[str, tuple[str, ...]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for stack in assembly("local", Path(folder), validated=False).stacks:
            for resource in stack.template["Resources"].values():
                source = source_of(str(resource.get("Properties", {}).get("Handler", "")))
                if source is not None:
                    variables = resource["Properties"].get("Environment", {}).get("Variables", {})
                    found[source] = modules_named_by(variables)
    return found


def an_order() -> dict[str, Any]:
    """Lambda's event with one order, a real one of some twenty lines, under a number of its own."""
    invoices = read_orders(SHIPPED_DAY).invoices
    invoice = min(invoices, key=lambda each: abs(len(each.lines) - 20))
    event = msgspec.structs.replace(invoice, invoice=f"{invoice.invoice}-{uuid.uuid4().hex[:8]}").event()
    return _from_bus(event.source, event.type, json.loads(event.to_json()))


def a_wish() -> dict[str, Any]:
    """Lambda's event with one job that a transaction asked for: a sales report."""
    wish = JobWanted(
        wish=uuid.uuid4().hex, job_type="sales_report", input=msgspec.Raw(b"{}"), wanted_at=datetime.now(UTC)
    )
    event = wish.event()
    return _from_bus(event.source, event.type, json.loads(event.to_json()))


def a_release() -> dict[str, Any]:
    """Lambda's event with a webhook of GitHub's: a release was published, one of its own."""
    number = uuid.uuid4().int % 10**9
    release = {
        "id": number,
        "tag_name": f"v{number}",
        "name": "A release",
        "body": "- a change\n" * 100,
        "html_url": f"https://github.com/example/shop/releases/tag/v{number}",
        "draft": False,
        "prerelease": False,
        "author": {"login": "octocat"},
        "published_at": "2026-11-24T12:00:00Z",
    }
    payload = {"action": "published", "release": release, "repository": {"full_name": "example/shop"}}
    webhook = ReleasePublished(
        provider="github",
        event_type="release.published",
        delivery_id=str(uuid.uuid4()),
        delivery_id_signed=False,
        scheme="github",
        key_id="secret",
        body_sha256=hashlib.sha256(str(number).encode()).hexdigest(),
        received_at=datetime.now(UTC),
        payload=msgspec.Raw(json.dumps(payload).encode()),
    )
    event = webhook.event()
    return _from_bus(event.source, event.type, json.loads(event.to_json()))


def a_low_stock() -> dict[str, Any]:
    """Lambda's event with a product that is low; nobody has said where to tell it."""
    fact = StockLow(product="85123A", units=7, low_below=100, cause=uuid.uuid4().hex, caused_at=datetime.now(UTC))
    event = fact.event()
    return _from_bus(event.source, event.type, json.loads(event.to_json()))


def a_nudge() -> dict[str, Any]:
    """Lambda's event with a nudge for a job that is not there: what comes before any job's own work."""
    return {"Records": [_record(json.dumps({"job": f"job-{uuid.uuid4().hex}", "attempt": 1}))]}


def a_token() -> dict[str, Any]:
    """Lambda's event with a token for a subscription that is not there: what comes before any attempt."""
    return {"Records": [_record(json.dumps({"subscription": f"sub_{uuid.uuid4().hex[:20]}"}))]}


def a_delivery() -> dict[str, Any]:
    """API Gateway's event (payload format 2.0) with a delivery of GitHub's, signed, under an id of its own."""
    payload = {
        "action": "published",
        "release": {"id": 1, "tag_name": "v1.0.0", "name": "One", "body": "- a change\n" * 100, "draft": False},
        "repository": {"id": 1, "name": "shop", "full_name": "example/shop", "private": False},
        "sender": {"login": "octocat", "id": 1, "type": "User"},
        "unique": uuid.uuid4().hex,
    }
    body = json.dumps(payload)
    headers = {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/bench",
        "x-github-delivery": str(uuid.uuid4()),
        "x-github-event": "release",
        "x-hub-signature-256": "sha256=" + hmac.new(_SECRET.encode(), body.encode(), hashlib.sha256).hexdigest(),
    }
    return {**_request("POST", "/webhooks/github"), "headers": headers, "body": body}


def a_listing() -> dict[str, Any]:
    """API Gateway's event for a page of jobs."""
    return {**_request("GET", "/jobs"), "headers": {}, "queryStringParameters": {"limit": "10"}}


def _events() -> dict[str, tuple[Callable[[], dict[str, Any]] | None, Mapping[str, Any] | None]]:
    consumers = dict.fromkeys(("event_journal", "sales_ledger", "stock_levels"), (an_order, _ALL_DONE))
    jobs = ("customer_segments", "customers_shard", "delivery_batch", "exchange_rates", "sales_report", "job_starter")
    return {
        **consumers,
        **dict.fromkeys(jobs, (a_nudge, _ALL_DONE)),
        "job_submitter": (a_wish, _ALL_DONE),
        "release_notes": (a_release, _ALL_DONE),
        "team_notifier": (a_low_stock, _ALL_DONE),
        "delivery_planner": (a_low_stock, _ALL_DONE),
        "delivery_sender": (a_token, _ALL_DONE),
        "delivery_sweeper": (dict, None),
        "subscriptions_api": (a_page, {"statusCode": 200}),
        "jobs_api": (a_listing, {"statusCode": 200}),
        "job_sweeper": (dict, {}),
        "webhook_receiver": (a_delivery, {"statusCode": 200}),
        "webhook_relay": (dict, None),
        # order_import: its event is one of the durable engine's, which is not here.
    }


def _common() -> dict[str, str]:
    """What any function may be given."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    boto3.client("events").create_event_bus(Name=name)
    boto3.client("s3").create_bucket(Bucket=name)
    queue = boto3.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    place = json.dumps({"queues": {"normal": queue}})
    for job_type in CATALOGUE.job_types:
        boto3.client("ssm").put_parameter(Name=f"/{name}/{job_type}", Value=place, Type="String")
    manager = boto3.client("secretsmanager")
    secret = manager.create_secret(Name=name, SecretString=_SECRET)["ARN"]
    document = json.dumps({"providers": {"github": _SECRET}})
    document_arn = manager.create_secret(Name=f"{name}-webhooks", SecretString=document)["ARN"]
    return {
        "OFFLOAD_CATALOGUE": "shop.catalogue",
        "OFFLOAD_PROVIDERS_MODULE": "shop.providers",
        "OFFLOAD_QUEUE_URL": queue,
        "OFFLOAD_DEAD_LETTER_QUEUE_URL": queue,
        "OFFLOAD_CLAIMS_BUCKET": name,
        "OFFLOAD_ATTEMPTS": "5",
        "OFFLOAD_BUS": name,
        "OFFLOAD_JOBS_TABLE": _table("jobs", due=("due_shard", "due_at"), types=("type_shard", "listed")),
        "OFFLOAD_JOBS_BUCKET": name,
        "OFFLOAD_JOBS_PATH": f"/{name}",
        "OFFLOAD_WEBHOOKS_SECRET_ARN": document_arn,
        "OFFLOAD_WEBHOOKS_PROVIDERS": "github",
        "WEBHOOK_SECRET_NAME": secret,
        "LEDGER_TABLE": _table("sums"),
    }


def _own_variables(bucket: str) -> dict[str, dict[str, str]]:
    deliveries = _table("deliveries", owed=("owed", "owed_at"))
    webhooks = {"OFFLOAD_DELIVERIES_TABLE": deliveries, "OFFLOAD_REFUSED_PER_MINUTE": "100"}
    secret = boto3.client("secretsmanager").create_secret(Name=f"{bucket}-slack", SecretString="-")["ARN"]
    agreed = CallSettings(table=_table("calls", sort_key=False), per_second=1, secret=secret)
    calls = {name: msgspec.json.encode(agreed).decode() for name in map(variable_of, ("ecb", "slack"))}
    egress = egress_variables([], ["https"], [443])
    calls |= egress
    queue = boto3.client("sqs").create_queue(QueueName=f"{bucket}-tokens")["QueueUrl"]
    sending = {
        **egress,
        "OFFLOAD_SUBSCRIPTIONS_TABLE": _table(
            "sending", listed=("subscription", "listed"), events=("event", "listed"), wake=("wake", "wake_at")
        ),
        "OFFLOAD_SENDER_QUEUE_URL": queue,
        "OFFLOAD_SENDER_TROUBLE_QUEUE_URL": queue,
        "OFFLOAD_SEALING_SECRET": secret,
        "OFFLOAD_SENDING_DESTINATIONS": "",
        POLICY_VARIABLE: msgspec.json.encode(Policy()).decode(),
        "OFFLOAD_JOURNAL_TABLE": _table("journal"),
        "OFFLOAD_ARCHIVE": "archive",
        "OFFLOAD_ARCHIVED_BUS": "bus",
        "OFFLOAD_ARCHIVE_LATE_MINUTES": "10",
        "OFFLOAD_PLANNER_RULE": "rule",
    }
    return {
        "stock_levels": {
            "STOCK_TABLE": _table("shelves", sort_key=False),
            "STOCK_OPENING_UNITS": "1000000",
            "STOCK_LOW_BELOW": "1",
        },
        "release_notes": {"CHANGE_LOG_TABLE": _table("changes"), "CHANGE_LOG_BUCKET": bucket},
        "exchange_rates": {
            **calls,
            "RATES_TABLE": _table("rates"),
            "RATES_DAILY_URL": "https://www.ecb.europa.eu/daily.xml",
            "RATES_HISTORY_URL": "https://www.ecb.europa.eu/history.xml",
        },
        "team_notifier": {**calls, "NOTICES_TABLE": _table("notices", sort_key=False)},
        "job_starter": {"OFFLOAD_JOB": "order_import", "OFFLOAD_FUNCTION": "none"},
        "webhook_receiver": webhooks,
        "webhook_relay": webhooks,
        **dict.fromkeys(
            ("delivery_planner", "delivery_sender", "delivery_sweeper", "delivery_batch", "subscriptions_api"),
            sending,
        ),
    }


def _from_bus(source: str, name: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    message = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "source": source,
        "detail-type": name,
        "account": "000000000000",
        "time": "2010-12-01T08:26:00Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
    }
    return {"Records": [_record(json.dumps(message))]}


def a_page() -> dict[str, Any]:
    """API Gateway's event for a page of subscriptions."""
    return {**_request("GET", "/subscriptions"), "headers": {}, "queryStringParameters": {"limit": "10"}}


def _record(body: str) -> dict[str, Any]:
    return {
        "messageId": str(uuid.uuid4()),
        "receiptHandle": "receipt",
        "body": body,
        "attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1291191960000"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:nothing",
        "awsRegion": "us-east-1",
    }


def _request(method: str, path: str) -> dict[str, Any]:
    http = {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "203.0.113.7", "userAgent": "bench"}
    return {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "",
        "requestContext": {
            "http": http,
            "requestId": uuid.uuid4().hex,
            "routeKey": f"{method} {path}",
            "stage": "$default",
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": False,
    }


def _usual_bundle(bundle: Path, name: str, packages: tuple[str, ...]) -> Path:
    """The handler with its packages, pinned as the project pins them; without bytecode, as uv installs them."""
    needed = {*packages, *(("pydantic-core",) if "pydantic" in packages else ())}
    lines = (PROJECT / "requirements" / "dev.txt").read_text(encoding="utf-8").splitlines()
    pins = [line.split(" ")[0] for line in lines if line.partition("==")[0] in needed]
    command = [uv.find_uv_bin(), "pip", "install", "--quiet", "--python", str(PYTHON), "--target", str(bundle), *pins]
    subprocess.run(command, check=True, env={**os.environ, "UV_NO_PROGRESS": "1"})
    shutil.copyfile(Path(__file__).with_name(f"{name}.py"), bundle / f"{name}.py")
    for package in IN_THE_RUNTIME:
        shutil.rmtree(bundle / package, ignore_errors=True)
        (bundle / package).unlink(missing_ok=True)
    return bundle


def _table(role: str, *, key: str = "pk", sort_key: bool = True, **indexes: tuple[str, str]) -> str:
    """A new table's name; `indexes` are its global ones, each with its two keys."""
    keys: list[Any] = [(key, "HASH"), *([("sk", "RANGE")] if sort_key else [])]
    name = f"{role}-{uuid.uuid4().hex[:8]}"
    attributes = dict.fromkeys([each for each, _ in keys] + [each for pair in indexes.values() for each in pair])
    more: Any = {}
    if indexes:
        more["GlobalSecondaryIndexes"] = [
            {
                "IndexName": index,
                "KeySchema": [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "ALL"},
            }
            for index, (pk, sk) in indexes.items()
        ]
    boto3.client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": each, "KeyType": kind} for each, kind in keys],
        AttributeDefinitions=[
            {"AttributeName": each, "AttributeType": "N" if each.endswith("_at") else "S"} for each in attributes
        ],
        BillingMode="PAY_PER_REQUEST",
        **more,
    )
    return name
