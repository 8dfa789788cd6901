"""`offload change-log`: what was released and merged, by month."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from offload.cli import terminal
from offload.cli.deployment.options import EnvironmentOption, JsonOption, print_json

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

app = typer.Typer(help="The shop's change log: releases and merged pull requests, one Markdown page a month.")

PAGES = "ChangeLog/Pages"
"""The construct of the pages' bucket."""


@app.callback()
def _group() -> None:
    """Keeps `show` a command of its own while it is the only one."""


@app.command()
def show(
    month: Annotated[str | None, typer.Option(help="The month, as 2026-11; the months are listed without.")] = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Print a month's page, or list the months that have one."""
    from offload.cli.deployment.failure import Failure
    from offload.cli.deployment.resources import Deployment

    if month is not None and not re.fullmatch(r"\d{4}-\d{2}", month):
        raise Failure(f"--month is a year and a month, as 2026-11, not '{month}'")
    deployment = Deployment.of(environment)
    bucket, s3 = deployment.bucket(PAGES), deployment.aws.s3
    if month is None:
        months = pages_in(bucket, s3)
        if as_json:
            print_json({"months": months})
            return
        for page in months:
            terminal.line(f"{page['month']}  {page['bytes']:>7,} bytes  changed {page['changed_at']}")
        if not months:
            terminal.line("the change log has no pages yet")
        return
    page = page_in(bucket, month, s3)
    if as_json:
        print_json(page)
    else:
        terminal.block(page["markdown"])


def pages_in(bucket: str, s3: S3Client) -> list[dict[str, Any]]:
    """The months that have a page, in their order."""
    from shop.change_log import PREFIX, month_of

    found = []
    for answer in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=PREFIX):
        for page in answer.get("Contents", ()):
            if month := month_of(page["Key"]):
                changed_at = f"{page['LastModified']:%Y-%m-%dT%H:%M:%SZ}"
                found.append({"month": month, "bytes": page["Size"], "changed_at": changed_at})
    return sorted(found, key=lambda page: str(page["month"]))


def page_in(bucket: str, month: str, s3: S3Client) -> dict[str, Any]:
    """A month's page; raises Failure with the months there are."""
    from offload.cli.deployment.failure import Failure
    from shop.change_log import page_key

    try:
        answer = s3.get_object(Bucket=bucket, Key=page_key(month))
    except s3.exceptions.NoSuchKey as error:
        known = ", ".join(page["month"] for page in pages_in(bucket, s3)) or "none"
        raise Failure(f"the change log has no page of {month}; months that have one: {known}") from error
    with answer["Body"] as body:
        text = body.read().decode()
    changed_at = f"{answer['LastModified']:%Y-%m-%dT%H:%M:%SZ}"
    return {"month": month, "key": page_key(month), "changed_at": changed_at, "markdown": text}
