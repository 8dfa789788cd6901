"""A monolith that has its role and nothing else, on an embedded AWS that enforces IAM.

What the embedded AWS does not see is in tests/unit/cdk/test_monolith_access.py: it has no `events:source`, so that it
cannot tell one source from another, and it enforces no key.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import httpx
import pytest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from clinic.contracts.jobs import WARD_REPORT, Days
from clinic.contracts.visits import VisitEnded, VisitLine
from offload.cli.local.process import REGION
from offload.client.job_calls import JobRefused
from offload.client.jobs import Jobs
from offload.client.publisher import ClaimStore, NotPublished, Publisher
from offload.contracts.jobs.job import State
from tests.copies import RETRIES, Copy
from tests.local.subscribers import Subscribers
from tests.patience import PATIENCE

# Nobody listens there.
NOWHERE = "http://127.0.0.1:9/webhooks"


@dataclass(frozen=True)
class Monolith:
    """What has assumed the deployed role, and has nothing else."""

    copy: Copy
    credentials: Credentials

    def client(self, service: str) -> Any:
        """A boto3 client with nothing but the role."""
        return client_as(self.copy, service, self.credentials)

    def publisher(self, bus: str) -> Publisher:
        """What the monolith publishes with."""
        claims = ClaimStore(self.copy.deployment.bucket("Events/Claims"), s3=self.client("s3"))
        return Publisher(bus, events=self.client("events"), claims=claims, retries=RETRIES)

    def jobs(self) -> Jobs:
        """What it submits with."""
        instance = self.copy.deployment.aws.instance
        assert instance is not None
        return Jobs(
            self.copy.deployment.job_service.endpoint,
            credentials=self.credentials,
            region=REGION,
            verify=ssl.create_default_context(cafile=instance.certificate),
            trust_env=False,
            timeout=httpx.Timeout(PATIENCE),
            retries=RETRIES,
        )


def client_as(copy: Copy, service: str, credentials: Credentials) -> Any:
    """A boto3 client of the copy's embedded AWS with these credentials."""
    instance = copy.deployment.aws.instance
    assert instance is not None
    return cast("Any", copy.deployment.aws.session).client(
        service,
        endpoint_url=instance.endpoint,
        verify=instance.certificate,
        aws_access_key_id=credentials.access_key,
        aws_secret_access_key=credentials.secret_key,
        aws_session_token=credentials.token,
    )


def policy(statement: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


# Of the session, as the copy is: a process that is given tests of other modules in between would make the user twice.
@pytest.fixture(scope="session")
def monolith(deployed_with_iam: Copy) -> Monolith:
    """The monolith of the copy. There is no ECS here that would start it: a user assumes the role in its place."""
    aws = deployed_with_iam.deployment.aws
    user = aws.iam.create_user(UserName="starts-the-monolith")["User"]["Arn"]
    key = aws.iam.create_access_key(UserName="starts-the-monolith")["AccessKey"]
    name = deployed_with_iam.deployment.one("Monolith/Role", "AWS::IAM::Role").physical_id
    role = aws.iam.get_role(RoleName=name)["Role"]["Arn"]
    assume = {"Effect": "Allow", "Action": "sts:AssumeRole"}
    aws.iam.update_assume_role_policy(RoleName=name, PolicyDocument=policy({**assume, "Principal": {"AWS": user}}))
    aws.iam.put_user_policy(
        UserName="starts-the-monolith", PolicyName="Starts", PolicyDocument=policy({**assume, "Resource": role})
    )
    starter = client_as(deployed_with_iam, "sts", Credentials(key["AccessKeyId"], key["SecretAccessKey"]))
    given = starter.assume_role(RoleArn=role, RoleSessionName="monolith")["Credentials"]
    return Monolith(
        deployed_with_iam, Credentials(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])
    )


def ended(visit: str, *, description: str = "EYE TEST") -> Any:
    line = VisitLine(item="85123A", quantity=6, unit_price=Decimal("2.55"), description=description)
    return VisitEnded(visit=visit, ended_at=datetime(2011, 1, 4, tzinfo=UTC), ward="Eyes", lines=(line,)).event()


def test_it_publishes_events_and_the_data_of_large_ones_on_its_bus_and_on_no_other(monolith: Monolith) -> None:
    deployment = monolith.copy.deployment
    done = monolith.publisher(deployment.bus).publish_many([ended("1"), ended("2", description="x" * 1_100_000)])
    assert (done.count, done.claim_checks) == (2, 1)
    deployment.aws.events.create_event_bus(Name="elsewhere")
    with pytest.raises(NotPublished, match="AccessDenied"):
        monolith.publisher("elsewhere").publish(ended("3"))


def test_it_submits_jobs_and_reads_and_cancels_them_and_decides_none(monolith: Monolith) -> None:
    with monolith.jobs() as jobs:
        job = jobs.submit(WARD_REPORT, Days())
        assert job.wait(PATIENCE).state is State.SUCCEEDED
        assert job.result()
        waits = jobs.submit(WARD_REPORT, Days(), delay=timedelta(days=1))
        assert waits.cancel().state is State.CANCELLED
        assert {each.id for each in jobs.page().jobs} >= {job.id, waits.id}
        for operators in (lambda: jobs.retry(WARD_REPORT, job.id), lambda: jobs.pause(WARD_REPORT.name)):
            with pytest.raises(JobRefused) as refused:
                operators()
            assert refused.value.status == 403


def test_it_manages_subscriptions_and_reseals_none(monolith: Monolith) -> None:
    subscribers = Subscribers(monolith.copy, monolith.credentials)
    made = subscribers.subscribe(NOWHERE, ["visit.ended"])["subscription"]["id"]
    assert subscribers.call("GET", f"/subscriptions/{made}")[0] == 200
    assert subscribers.call("POST", f"/subscriptions/{made}/pause")[0] == 200
    assert subscribers.call("GET", "/deliveries")[0] == 200
    assert subscribers.call("POST", f"/subscriptions/{made}/reseal")[0] == 403
    assert subscribers.call("DELETE", f"/subscriptions/{made}")[0] == 204


def test_it_may_do_nothing_else(monolith: Monolith) -> None:
    deployment = monolith.copy.deployment
    claims = deployment.bucket("Events/Claims")
    s3, jobs = monolith.client("s3"), deployment.job_service
    tried: dict[str, Callable[[], object]] = {
        "an object beside the claims": lambda: s3.put_object(Bucket=claims, Key="other/x", Body=b"x"),
        "a claim of somebody's": lambda: s3.get_object(Bucket=claims, Key="claims/x"),
        "the list of claims": lambda: s3.list_objects_v2(Bucket=claims),
        "a job's file": lambda: s3.put_object(Bucket=jobs.bucket, Key="uploads/x", Body=b"x"),
        "the table of jobs": lambda: monolith.client("dynamodb").scan(TableName=jobs.table),
        "a queue": lambda: monolith.client("sqs").send_message(
            QueueUrl=deployment.consumer("VisitLedger").queue_url, MessageBody="x"
        ),
        "a secret": lambda: monolith.client("secretsmanager").get_secret_value(
            SecretId=deployment.subscription_service.sealing_secret
        ),
        "a function": lambda: monolith.client("lambda").invoke(
            FunctionName=deployment.function("ward_report").function_name
        ),
        "a rule": lambda: monolith.client("events").list_rules(EventBusName=deployment.bus),
    }
    for what, attempt in tried.items():
        with pytest.raises(ClientError) as refused:
            attempt()
        assert refused.value.response["Error"]["Code"] in ("AccessDenied", "AccessDeniedException"), what
