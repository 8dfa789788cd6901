"""Webhooks through the deployed receiver, beside a bare function that does nothing, in the same run.

The app is deployed to an embedded AWS as `offload up` does it. The bare function is behind an HTTP API of its own, logs
a line and answers 200: it checks nothing, keeps nothing, and publishes nothing. Both get GitHub's deliveries, each with
a body of its own, over one kept connection a sender. They take turns, round by round.

    .venv/bin/python bench/webhooks/receiving.py [--rounds 5] [--json]

Answers: milliseconds at one delivery at a time, deliveries a second at eight, and the first answer of a fresh worker,
which has to come within Slack's 3 seconds. Leaves with 1 when it does not, or when an event is missing.
"""

from __future__ import annotations

import argparse
import hmac
import http.client
import io
import json
import os
import statistics
import sys
import tempfile
import time
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.resources import Deployment
from offload.cli.local.process import ACCOUNT, EmbeddedAws
from offload.cli.local.up import bring_up
from offload.contracts.webhooks_in.providers import SLACK
from offload.contracts.webhooks_in.stored_secret import SecretDocument, StoredSecret, StoredSecrets

OURS: Final = "receiver"
BARE: Final = "bare function"
SECRET: Final = "It's a Secret to Everybody"  # noqa: S105 -- GitHub's own example
ONE_BY_ONE: Final = 200
TOGETHER: Final = 400
SENDERS: Final = 8
_NOTHING: Final = """
def handler(event, context):
    print("nothing done with", len(event.get("body") or ""), "characters")
    return {"statusCode": 200, "body": ""}
"""
# As long as GitHub's example payloads are in the middle: 8 kB.
_FILLER: Final = {f"field_{number}": f"https://api.example.com/repos/{number}/" * 3 for number in range(70)}


@dataclass(frozen=True)
class Peer:
    """Where deliveries go."""

    name: str
    url: str
    function: str


class Sender:
    """One connection."""

    def __init__(self, peer: Peer) -> None:
        self._address = urlsplit(peer.url)
        self._connection = http.client.HTTPConnection(self._address.hostname or "", self._address.port, timeout=60)

    def deliver(self) -> float:
        """Seconds of one delivery that nobody has sent before."""
        body = json.dumps({"action": "opened", "id": uuid.uuid4().hex, **_FILLER}).encode()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-GitHub-Event": "issues",
            "X-Hub-Signature-256": "sha256=" + hmac.new(SECRET.encode(), body, "sha256").hexdigest(),
        }
        began = time.perf_counter()
        self._connection.request("POST", f"{self._address.path}/webhooks/github", body, headers)
        answer = self._connection.getresponse()
        said = answer.read()
        took = time.perf_counter() - began
        if answer.status != 200:
            raise RuntimeError(f"status {answer.status}: {said[:300]!r}")
        return took


def measure(rounds: int) -> dict[str, Any]:
    """All figures of both."""
    with tempfile.TemporaryDirectory(prefix="webhooks-") as folder:
        embedded = EmbeddedAws(Path(folder), persist=False)
        try:
            return _measure(bring_up(embedded), rounds)
        finally:
            embedded.stop()


def _measure(deployment: Deployment, rounds: int) -> dict[str, Any]:
    entry = deployment.webhook_entry
    secrets = StoredSecrets((StoredSecret(key_id="bench", value=SECRET),))
    document = SecretDocument().with_secrets("github", secrets).to_json()
    deployment.aws.secrets_manager.put_secret_value(SecretId=entry.secret, SecretString=document)
    receiver = deployment.function("webhook_receiver").function_name
    peers = [Peer(OURS, entry.endpoint, receiver), _bare(deployment.aws, entry.endpoint)]
    found: dict[str, Any] = {"load": os.getloadavg()[0]}
    found |= {peer.name: {"single": [], "rates": [], "cold": []} for peer in peers}
    sent = 0
    for turn in range(rounds + 1):
        for peer in peers if turn % 2 else reversed(peers):
            row = found[peer.name]
            _start_afresh(deployment.aws, peer.function)
            cold = Sender(peer).deliver()
            sender = Sender(peer)
            single = [sender.deliver() for _ in range(ONE_BY_ONE)]
            with ThreadPoolExecutor(SENDERS) as threads:
                senders = [Sender(peer) for _ in range(SENDERS)]
                # Each sender's function worker is there before the clock runs.
                list(threads.map(Sender.deliver, senders))
                began = time.perf_counter()
                list(threads.map(_many, senders))
                rate = TOGETHER / (time.perf_counter() - began)
            sent += (1 + ONE_BY_ONE + SENDERS + TOGETHER) * (peer.name == OURS)
            if turn:
                row["cold"].append(cold)
                row["single"] += single
                row["rates"].append(rate)
    found["missing"] = sent - _published(deployment)
    return found


def _many(sender: Sender) -> None:
    for _ in range(TOGETHER // SENDERS):
        sender.deliver()


def _published(deployment: Deployment) -> int:
    """How many deliveries the table has, and none owed."""
    pages = deployment.aws.dynamodb.get_paginator("scan").paginate(TableName=deployment.webhook_entry.table)
    return sum("published_at" in item for page in pages for item in page["Items"])


def _start_afresh(aws: Aws, function: str) -> None:
    """Lets the function's next call begin a worker: a change of its configuration does."""
    variables = (
        aws.lambda_.get_function_configuration(FunctionName=function).get("Environment", {}).get("Variables", {})
    )
    changed = {**variables, "BENCH": uuid.uuid4().hex}
    aws.lambda_.update_function_configuration(FunctionName=function, Environment={"Variables": changed})


def _bare(aws: Aws, endpoint: str) -> Peer:
    """The bare function behind an HTTP API, made by API."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("nothing.py", _NOTHING)
    made = aws.lambda_.create_function(
        FunctionName="nothing",
        Runtime="python3.13",
        Role=f"arn:aws:iam::{ACCOUNT}:role/nothing",
        Handler="nothing.handler",
        Code={"ZipFile": packed.getvalue()},
        Timeout=10,
        MemorySize=512,
    )
    gateway = aws._client("apigatewayv2")
    api = gateway.create_api(Name="nothing", ProtocolType="HTTP")["ApiId"]
    integration = gateway.create_integration(
        ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=made["FunctionArn"], PayloadFormatVersion="2.0"
    )["IntegrationId"]
    gateway.create_route(ApiId=api, RouteKey="POST /webhooks/{provider}", Target=f"integrations/{integration}")
    gateway.create_stage(ApiId=api, StageName="$default", AutoDeploy=True)
    return Peer(BARE, f"{endpoint.rpartition('/')[0]}/{api}", "nothing")


def show(found: dict[str, Any], rounds: int) -> None:
    """Prints the table."""
    print(f"{os.cpu_count()} cores, load {found['load']:.1f} at the start; {rounds} rounds; bodies of 8 kB")
    print(f"{'':16}{'p50':>9}{'p99':>9}{'a second':>12}{'(least to most)':>20}{'fresh worker':>15}{'most':>10}")
    for name in (OURS, BARE):
        row = found[name]
        cuts = statistics.quantiles(row["single"], n=100)
        rates = row["rates"]
        print(
            f"{name:16}{1000 * cuts[49]:6.1f} ms{1000 * cuts[98]:6.1f} ms{statistics.median(rates):12,.0f}"
            f"{f'({min(rates):,.0f} to {max(rates):,.0f})':>20}"
            f"{1000 * statistics.median(row['cold']):12.0f} ms{1000 * max(row['cold']):7.0f} ms"
        )
    print(f"deliveries without an event: {found['missing']}")


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = measure(arguments.rounds)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        show(found, arguments.rounds)
    in_time = max(found[OURS]["cold"]) < SLACK.sender.answer_within
    sys.exit(0 if in_time and not found["missing"] else 1)


if __name__ == "__main__":
    main()
