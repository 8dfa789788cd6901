"""A monolith that knows nothing but what `offload connect` prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any, Final

import pytest

from offload.project import PROJECT
from tests.copies import Copy
from tests.local.ledger import ledger_of
from tests.local.subscribers import Subscribers
from tests.patience import PATIENCE, until

# A machine may be ten times as slow as AWS and more.
PATIENT: Final = f"""
import httpx
from offload.client.publisher import Retries
patient = {{"retries": Retries(deadline={PATIENCE}), "timeout": httpx.Timeout({PATIENCE})}}
"""
DAY: Final = date(1999, 5, 4)
"""Of its visits alone."""
MONOLITH: Final = f"""{PATIENT}
import json
from datetime import datetime, timezone
from decimal import Decimal

from offload.client.jobs import Jobs
from offload.client.publisher import Publisher
from offload.client.subscriptions import SubscriptionRefused, Subscriptions
from offload.contracts.webhooks_out.subscription import Wish
from clinic.contracts.jobs import WARD_REPORT, Days
from clinic.contracts.visits import VisitEnded, VisitLine


def ended(visit, description):
    line = VisitLine(item="85123A", quantity=6, unit_price=Decimal("2.55"), description=description)
    at = datetime({DAY:%Y, %-m, %-d}, tzinfo=timezone.utc)
    return VisitEnded(visit=visit, ended_at=at, ward="Eyes", lines=(line,)).event()


visits = [ended("connected-1", "EYE TEST"), ended("connected-2", "x" * 1_100_000)]
sent = Publisher.from_environment().publish_many(visits)

with Jobs.from_environment(**patient) as jobs:
    handle = jobs.submit(WARD_REPORT, Days())
    report = handle.result({PATIENCE})

with Subscriptions.from_environment(**patient) as subscriptions:
    created = subscriptions.create(Wish(url="http://127.0.0.1:9/hooks", types=("visit.ended",), tenant="connected"))
    subscription = created.subscription.id
    listed = [each.id for each in subscriptions.subscriptions()]
    subscriptions.delete(subscription)
    try:
        subscriptions.subscription(subscription)
    except SubscriptionRefused as refused:
        gone = refused.type

print(json.dumps({{
    "published": sent.count, "claims": sent.claim_checks, "job": handle.id, "report": report.page,
    "subscription": subscription, "secret": created.secret, "listed": subscription in listed, "gone": gone,
}}))
"""


def printed(copy: Copy, *arguments: str) -> str:
    ended = copy.offload("connect", *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def ran(copy: Copy, code: str) -> str:
    """What a process says that has the printed variables and nothing else."""
    variables = json.loads(printed(copy, "local", "--format", "json"))
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env=variables | {"PYTHONPATH": f"{copy.project}{os.pathsep}{PROJECT}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def told(deployed: Copy) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran(deployed, MONOLITH))
    return found


def test_its_events_reach_the_consumers_large_ones_too(deployed: Copy, told: dict[str, Any]) -> None:
    assert (told["published"], told["claims"]) == (2, 1)

    until(lambda: ledger_of(deployed.deployment, DAY).visits == 2, "the two visits in the ledger")
    assert ledger_of(deployed.deployment, DAY).units == 12


def test_its_job_has_run_and_it_has_the_result(deployed: Copy, told: dict[str, Any]) -> None:
    shown = deployed.offload("jobs", "show", told["job"], "--json")
    assert json.loads(shown.stdout)["state"] == "succeeded"
    assert told["report"].startswith(f"results/{told['job']}/")


def test_its_subscription_was_there_and_is_gone(deployed: Copy, told: dict[str, Any]) -> None:
    assert told["listed"]
    assert told["secret"].startswith("whsec_")
    assert told["gone"] == "no-such-subscription"
    assert Subscribers(deployed).call("GET", f"/subscriptions/{told['subscription']}")[0] == 404


def test_a_shell_gets_the_same_variables(deployed: Copy, tmp_path: Path) -> None:
    (file := tmp_path / "offload.env").write_text(printed(deployed))
    shown = subprocess.run(
        ["sh", "-c", '. "$0" && env', str(file)], env={"PATH": os.defpath}, capture_output=True, text=True, check=True
    )
    exported = dict(line.split("=", 1) for line in shown.stdout.splitlines())
    variables = json.loads(printed(deployed, "--environment", "local", "--format", "json"))
    assert variables.items() <= exported.items()
    assert {name for name in variables if name.startswith("OFFLOAD_")} == {
        "OFFLOAD_BUS",
        "OFFLOAD_CLAIMS_BUCKET",
        "OFFLOAD_JOBS_URL",
        "OFFLOAD_SUBSCRIPTIONS_URL",
    }
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", variables["AWS_ENDPOINT_URL"])
