"""The behaviours on the account of an environment: `make conformance ENV=dev`.

Bounded, with resources of its own that are removed in any case; it says first what it makes, and asks.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.main import what_aws_says
from offload.cli.preflight.assembly import of_file
from offload.project import PROJECT
from tests.conformance.table import every

ENVIRONMENT_VARIABLE = "OFFLOAD_CONFORMANCE"
CALLS_AT_MOST = 1_500
"""Calls of one whole run; a test holds the embedded AWS's run to it."""
DOLLARS_AT_MOST = "0.10"
"""USD at list prices of 2026-11 (us-east-1): 1,500 calls of SQS and EventBridge under 0.01, some 20,000 write units of
DynamoDB (large items) 0.013, secrets for a minute under 0.001, a function's seconds, and three times that to spare."""


def plan(environment: str, account: str, region: str) -> str:
    """What a run makes and costs, for the person who is asked to confirm it."""
    return (
        f"{len([each for each in every() if 'account' in each.on])} behaviours on account {account}, {region}.\n"
        "It makes queues, a table, a bus with rules, secrets, a bucket, a log group, a parameter,\n"
        "a role and a function, all named offload-conformance-…, and removes them in any case;\n"
        "nothing of the environment is touched.\n"
        f"At most {CALLS_AT_MOST} calls and {DOLLARS_AT_MOST} US dollars; about ten minutes.\n"
        f"Type the environment's name ({environment}) to go on: "
    )


def place_of(environment: str) -> tuple[str, str]:
    """The account and Region that a run would use; raises Failure where it must not run."""
    kept = of_file(environment)
    if kept.keep:
        raise Failure(f"{environment} keeps data: behaviours are tried on an account that may lose everything")
    aws = Aws.of(environment)
    account, region = str(aws.sts.get_caller_identity()["Account"]), str(aws.session.region_name)
    if kept.account not in (None, account) or kept.region not in (None, region):
        raise Failure(
            f"environments/{environment}.toml belongs to {kept.account}, {kept.region}; not {account}, {region}"
        )
    return account, region


def main(arguments: list[str], *, ask: Callable[[str], str] = input) -> int:
    """Runs the behaviours; the exit code is pytest's, 1 when refused or not confirmed."""
    if len(arguments) != 1:
        sys.stderr.write("offload: say which environment: make conformance ENV=dev\n")
        return 2
    (environment,) = arguments
    try:
        account, region = place_of(environment)
    except (Failure, BotoCoreError, ClientError) as failure:
        sys.stderr.write(f"offload: {what_aws_says(failure) or failure}\n")
        return 1
    try:
        answer = ask(plan(environment, account, region))
    except EOFError:
        answer = ""
    if answer.strip() != environment:
        sys.stderr.write("offload: not confirmed, nothing was made\n")
        return 1
    os.environ[ENVIRONMENT_VARIABLE] = environment
    return int(
        pytest.main(["-q", "-s", "-p", "no:cacheprovider", "-k", "it_behaves", str(PROJECT / "tests" / "conformance")])
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
