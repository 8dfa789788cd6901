"""Writes docs/conformance.md from the declarations: `python -m tests.conformance.table`."""

from __future__ import annotations

import importlib

from offload.project import PROJECT
from tests.conformance.behaviour import BEHAVIOURS, Behaviour, Where

__all__ = ["PAGE", "PROJECT", "Behaviour", "every", "main", "page"]

PAGE = PROJECT / "docs" / "conformance.md"

MODULES = ("sqs", "dynamodb", "events", "functions", "secretsmanager", "s3", "others")
TITLES = {
    "sqs": "SQS",
    "dynamodb": "DynamoDB",
    "events": "EventBridge",
    "functions": "Lambda",
    "secretsmanager": "Secrets Manager",
    "s3": "S3",
    "others": "Parameter Store, CloudWatch Logs, CloudFormation",
}

NOT_COVERED = (
    (
        "What Lambda makes of a report with an id that is not in the batch",
        "the code reports ids of its batch alone; the embedded AWS takes such a batch for done",
    ),
    (
        "Durable executions: a name starts one once; a wait survives; operations and their limits",
        "the embedded AWS has AWS's local runner for them, which starts a name twice (facts in docs/jobs.md)",
    ),
    ("A replay of the archive reaches the rules with `replay-name`", "on AWS it takes minutes to an hour to begin"),
    ("Scheduler: each minute, `at()` once, its dead-letter queue", "a minute at least, and its precision is a minute"),
    ("TTL deletes an item within days", "nothing to wait for; the code filters what has expired itself"),
    (
        "S3 answers 403 in place of 404 to a role without ListBucket",
        "the embedded AWS checks no role here; the roles' grants are tested on the templates",
    ),
    (
        "Signatures of API Gateway and its payload limits (10 MB, 30 s)",
        "it needs a deployed API: tests/local has what the embedded one does",
    ),
    (
        "Throttling, of any service",
        "it cannot be provoked in a bounded run; the code's answer to it is tested with"
        " clients that are told to throttle",
    ),
    (
        "SNS: an address is pending until its owner confirms",
        "it sends a mail; the embedded AWS confirms at once, and the preflight is tested with recorded answers",
    ),
    (
        "CloudFormation: which replacement, retention and rollback a deploy brings",
        "tests of the preflight and of the life cycle deploy to the embedded AWS",
    ),
)

_HEAD = """\
# What the code relies on of AWS

Written by `.venv/bin/python -m tests.conformance.table` from the declarations in `tests/conformance`; do not edit.

Each line is a behaviour of AWS that the code relies on, with the page of AWS's documentation that says so and the day
it was read (API references in the text that botocore carries, guides in public copies). Each is a test, which tries it
and compares what came of it:

| where | when | what it is |
| --- | --- | --- |
| embedded | `make test` | MiniStack, on which everything else here is tried |
| moto | `make test` | moto's server in an environment of its own, for SQS and EventBridge |
| AWS | `make conformance ENV=dev` | an account; resources named `offload-conformance-…`, removed in any case |

`yes`: it does as AWS says. `**differs**`: it does not, and the test asserts what it does instead, so that the test
fails on the day it changes. `-`: not tried there. **No run on an AWS account has been made yet**: the column AWS says
`not run` until one has. The same command was run against the embedded AWS (`ENV=local`, 2026-11-29:
504 calls, 32 s, nothing left).

`make conformance` says first what it makes and at most costs, asks for the environment's name, and refuses an
environment that keeps data.

"""


def every() -> list[Behaviour]:
    """Every declared behaviour, service by service."""
    for name in MODULES:
        importlib.import_module(f"tests.conformance.{name}")
    return list(BEHAVIOURS.values())


def page() -> str:
    """The whole page."""
    behaviours = every()
    parts = [_HEAD]
    for service in MODULES:
        rows = [each for each in behaviours if each.service == service]
        parts.append(
            f"## {TITLES[service]}\n\n| behaviour | relied on in | embedded | moto | AWS |\n"
            "| --- | --- | --- | --- | --- |\n"
        )
        parts += [_row(each) for each in rows]
        parts.append("\n")
    differing = [(each, where, differs) for each in behaviours for where, differs in each.differs.items()]
    parts.append(
        "## Where an oracle differs\n\n| behaviour | where | what it does, and why that is safe |\n"
        "| --- | --- | --- |\n"
    )
    parts += [f"| `{each.id}` | {where} | {differs.why} |\n" for each, where, differs in differing]
    parts.append("\n## What is not covered\n\n| behaviour | why |\n| --- | --- |\n")
    parts += [f"| {what} | {why} |\n" for what, why in NOT_COVERED]
    return "".join(parts)


def main() -> None:
    """Writes the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.relative_to(PROJECT)}: {len(every())} behaviours")


def _row(behaviour: Behaviour) -> str:
    title = f"{behaviour.says} ([{behaviour.document.rpartition('/')[2].removesuffix('.html')}]({behaviour.document}),"
    relied = ", ".join(f"`{path}`" for path in behaviour.relied)
    cells = " | ".join(_cell(behaviour, where) for where in ("embedded", "moto", "account"))
    return f"| {title} {behaviour.read}) | {relied} | {cells} |\n"


def _cell(behaviour: Behaviour, where: Where) -> str:
    if where not in behaviour.on:
        return "-"
    if where == "account":
        return "not run"
    return "**differs**" if where in behaviour.differs else "yes"


if __name__ == "__main__":
    main()
