"""Durable executions as the job service sees them: begun under a name, looked at, ended, answered."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Final

from botocore.exceptions import ClientError

from offload.runtime import aws

ASK_ENGINE_AGAIN: Final = timedelta(minutes=5)
"""How long a long job that waits is left alone; a cancel of it is seen by the next sweep."""

_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What DurableExecutionName may be (Lambda's API_Invoke.html, read 2026-11-24)."""
_OPEN: Final = frozenset({"RUNNING", "PAUSING", "PAUSED"})
"""The statuses of an execution that ends later: one that is paused goes on when it is resumed (Lambda's ExecutionStatus
in botocore 1.44.8)."""
_GONE: Final = frozenset({"ResourceNotFoundException"})
_NOT_WAITING: Final = frozenset({"ResourceNotFoundException", "CallbackTimeoutException"})


def begin(function: str, job_id: str, attempt: int, payload: bytes) -> None:
    """Starts the execution of a job's attempt on a version of its function, once: the name meets the one that is there.

    The first attempt's name is the job's id, a later one's ends in its number. Raises botocore's errors.
    """
    name = job_id if attempt == 1 else f"{job_id}-{attempt}"
    if not _NAME.fullmatch(name):
        name = f"job-{hashlib.sha256(name.encode()).hexdigest()[:48]}"
    aws.functions().invoke(FunctionName=function, InvocationType="Event", DurableExecutionName=name, Payload=payload)


def goes_on(execution: str) -> bool:
    """Whether the execution with this ARN has not ended, also when it is paused; raises botocore's errors."""
    try:
        return aws.functions().get_durable_execution(DurableExecutionArn=execution)["Status"] in _OPEN
    except ClientError as error:
        if _code(error) in _GONE:
            return False
        raise


def stop(execution: str) -> None:
    """Ends an execution; one that has ended stays as it is. Raises botocore's errors."""
    try:
        aws.functions().stop_durable_execution(DurableExecutionArn=execution)
    except ClientError as error:
        if _code(error) not in _GONE:
            raise


def answer(callback: str, content: bytes) -> bool:
    """Gives a waiting execution what it waits for; False when it does not wait any more. Raises botocore's errors."""
    try:
        aws.functions().send_durable_execution_callback_success(CallbackId=callback, Result=content)
    except ClientError as error:
        if _code(error) in _NOT_WAITING or error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
            return False
        raise
    return True


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
