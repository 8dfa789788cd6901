"""The job service of a deployment, called as an operator does: with JSON as it was typed, and local files."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from offload.cli.catalogue import catalogue
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.logs import duration
from offload.cli.deployment.resources import Deployment
from offload.contracts.jobs.job import Job
from offload.contracts.jobs.job_type import JobType

if TYPE_CHECKING:
    from offload.client.jobs import Jobs

FILE_FIELD: Final = "file"
"""An input's field of this name is a key below `uploads/`; a local file is uploaded first."""
UPLOADS: Final = "uploads/"
RESULTS: Final = "results/"
"""A string in a result that begins with this is a file of the jobs' bucket."""


def jobs_of(deployment: Deployment) -> Jobs:
    """The client for a deployment's job service, with the deployment's credentials."""
    from offload.client.jobs import Jobs

    aws = deployment.aws
    return Jobs(deployment.job_service.endpoint, retries=aws.retries, **aws.api_options())


def job_type_of(name: str) -> JobType[Any, Any]:
    """The type of this name; raises Failure with the names there are."""
    types = catalogue().job_types
    if name not in types:
        raise Failure(f"there is no job type '{name}': {', '.join(sorted(types))}")
    return types[name]


def typed(text: str, contract: type[Any], option: str) -> Any:
    """A value by its contract, from JSON or from `@FILE`; raises Failure, naming the option and the field."""
    if text.startswith("@"):
        try:
            content = Path(text[1:]).read_bytes()
        except OSError as error:
            raise Failure(f"{option}: {text[1:]}: {error.strerror or error}") from error
    else:
        content = text.encode()
    try:
        return msgspec.json.decode(content, type=contract)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Failure(f"{option}: {error}; {contract.__name__} has {_fields(contract)}") from error


def local_file(content: Any) -> Path | None:
    """The local file that an input names where a key of the bucket belongs; raises Failure when it is not there."""
    named = getattr(content, FILE_FIELD, None)
    if not isinstance(named, str) or named.startswith(UPLOADS):
        return None
    file = Path(named).expanduser()
    if not file.is_file():
        raise Failure(f"--input: {FILE_FIELD}: there is no file {named} here, and it is no key below {UPLOADS}")
    return file


def moment(text: str, option: str) -> datetime:
    """A moment with its zone, such as 2026-11-24T02:00+00:00; raises Failure."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Failure(f"{option}: '{text}' is no time: such as 2026-11-24T02:00+00:00") from error
    if found.tzinfo is None:
        raise Failure(f"{option}: '{text}' has no zone: {text}+00:00 or {text}Z is UTC")
    return found


def since(text: str, option: str = "--since") -> datetime:
    """A moment in the past, as a moment or as how long ago (`2h`); raises Failure."""
    try:
        return datetime.now(UTC) - duration(text)
    except Failure:
        return moment(text, option)


def document_of(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    document: dict[str, Any] = json.loads(msgspec.json.encode(job))
    return document


def files_of(result: Any) -> list[str]:
    """The keys of the files that a result names, in its order."""
    if isinstance(result, str):
        return [result] if result.startswith(RESULTS) else []
    parts = result.values() if isinstance(result, dict) else result if isinstance(result, list) else ()
    return [key for part in parts for key in files_of(part)]


def _fields(contract: type[Any]) -> str:
    fields = msgspec.structs.fields(contract)
    return ", ".join(field.name if field.required else f"{field.name} (optional)" for field in fields) or "no fields"
