"""`offload jobs`: background jobs, asked for and looked at."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from offload.cli import terminal
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.options import EnvironmentOption, JsonOption, console, print_columns, print_json

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from offload.cli.deployment.resources import Deployment
    from offload.client.jobs import Jobs
    from offload.contracts.jobs.job import Job, Transition

app = typer.Typer(help="Background jobs: submit them, watch them, take their results, decide on held ones.")

JobArgument: TypeAlias = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]
InputOption: TypeAlias = Annotated[
    str, typer.Option("--input", metavar="JSON|@FILE", help="The input. A local file in its field `file` is uploaded.")
]

_LOOK_EVERY = 0.5
_SHOWN = 20
_PAGE = 100
_CHILDREN_SHOWN = 50


class YesOrNo(StrEnum):
    """What a person says to a question."""

    YES = "yes"
    NO = "no"


class Decision(StrEnum):
    """What a person says of a held job."""

    DONE = "done"
    RETRY = "retry"
    FAIL = "fail"


@app.command()
def types(environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """List the job types: their input, and the rules that they run by."""
    with service_of(environment) as jobs:
        document = jobs.types()
    if as_json:
        print_json(document)
        return
    headings = ("type", "input", "timeout", "attempts", "priorities", "")
    print_columns([headings, *(_type_cells(each) for each in document["job_types"])])


@app.command()
def submit(
    job_type: Annotated[str, typer.Argument(metavar="TYPE", help="The job type: `offload jobs types` lists them.")],
    content: InputOption = "{}",
    delay: Annotated[str | None, typer.Option(help="Start after this long: 90s, 10m, 2h, 1d.")] = None,
    run_at: Annotated[str | None, typer.Option(help="Start at this time, such as 2026-11-24T02:00+00:00.")] = None,
    priority: Annotated[str, typer.Option(help="The lane: high, normal or low, as far as the type has it.")] = "normal",
    tag: Annotated[list[str] | None, typer.Option(help="A tag to find it by; may be given several times.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and content is the same job.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for its end; exit code 1 when it does not succeed.")
    ] = False,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Submit a job."""
    import msgspec

    from offload.cli.deployment.logs import duration
    from offload.cli.jobs import service as asked
    from offload.contracts.events.event import BrokenContract

    kind = asked.job_type_of(job_type)
    given = asked.typed(content, kind.input, "--input")
    file = asked.local_file(given)
    after = None if delay is None else duration(delay)
    at = None if run_at is None else asked.moment(run_at, "--run-at")
    with service_of(environment) as jobs:
        if file is not None:
            given = msgspec.structs.replace(given, **{asked.FILE_FIELD: _uploaded(jobs, file)})
        try:
            handle = jobs.submit(
                kind,
                given,
                delay=after,
                run_at=at,
                priority=priority,
                tags=tag or (),
                idempotency_key=idempotency_key,
            )
        except BrokenContract as error:
            raise Failure(str(error)) from error
        if wait:
            if not as_json:
                console().print(handle.id, markup=False)
            _followed(jobs, handle.id, as_json=as_json)
            return
        job = handle.job()
    if as_json:
        print_json({**asked.document_of(job), "created": handle.created})
    else:
        there = "" if handle.created else " (it was there already)"
        console().print(f"{job.id} {job.state}{there}", markup=False)


@app.command("list")
def list_(
    job_type: Annotated[str | None, typer.Option("--type", help="Of this type only.")] = None,
    state: Annotated[
        str | None, typer.Option(help="waiting, queued, running, held, succeeded, failed or cancelled.")
    ] = None,
    since: Annotated[str | None, typer.Option(help="Submitted since: 2h, 1d, or a time with its zone.")] = None,
    tag: Annotated[str | None, typer.Option(help="With this tag only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = _SHOWN,
    cursor: Annotated[str | None, typer.Option(help="Go on where an earlier list ended (--json shows it).")] = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List jobs, newest first."""
    from offload.cli.jobs import service as asked
    from offload.contracts.jobs.job import State

    begin = None if since is None else asked.since(since)
    found: list[Job] = []
    with service_of(environment) as jobs:
        while True:
            page = jobs.page(
                job_type=job_type,
                state=state,
                since=begin,
                tag=tag,
                limit=min(_PAGE, limit - len(found)),
                cursor=cursor,
            )
            found += page.jobs
            cursor = page.cursor
            if cursor is None or len(found) >= limit:
                break
    if as_json:
        print_json({"jobs": [asked.document_of(job) for job in found], "cursor": cursor})
        return
    if not found:
        console().print("no jobs")
        return
    rows = [(job.id, job.type, job.state.value, str(job.attempt), _short(job.created_at), _says(job)) for job in found]
    styles = {State.FAILED: "red", State.HELD: "yellow", State.SUCCEEDED: "green"}
    headings = ("id", "type", "state", "attempt", "submitted", "")
    print_columns([headings, *rows], [None, *(styles.get(job.state) for job in found)])
    if cursor is not None:
        console().print("and older ones: --limit, --since, or --json for the cursor")


@app.command()
def show(job_id: JobArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Show a job whole: its input, its progress, its result or error, and its history."""
    from offload.cli.jobs import service as asked

    with service_of(environment) as jobs:
        job = jobs.get(job_id)
        if as_json:
            print_json(asked.document_of(job))
        else:
            _show(job)
            print_columns(_tree(jobs, job))


@app.command()
def watch(job_id: JobArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Draw a job's progress until it has ended; exit code 1 when it does not succeed. Ctrl-C leaves it running."""
    with service_of(environment) as jobs:
        _followed(jobs, job_id, as_json=as_json)


@app.command()
def cancel(job_id: JobArgument, environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """Cancel a job with its children: one that does not run never will, a running one ends at its next checkpoint."""
    with service_of(environment) as jobs:
        job = jobs.cancel(job_id)
    _said(job, as_json, "will end at its next checkpoint" if job.cancel_requested and not job.state.ended else "")


@app.command()
def retry(
    job_id: JobArgument,
    content: Annotated[str | None, typer.Option("--input", metavar="JSON|@FILE", help="Another input.")] = None,
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Submit an ended job anew, as a new job that names the old one; with another input, if you give one."""
    import msgspec

    from offload.cli.jobs import service as asked

    with service_of(environment) as jobs:
        kind = asked.job_type_of(jobs.get(job_id).type)
        given = None if content is None else asked.typed(content, kind.input, "--input")
        file = asked.local_file(given)
        if given is not None and file is not None:
            given = msgspec.structs.replace(given, **{asked.FILE_FIELD: _uploaded(jobs, file)})
        job = jobs.retry(kind, job_id, given)
    _said(job, as_json, f"retries {job_id}")


@app.command()
def decide(
    job_id: JobArgument,
    decision: Annotated[Decision, typer.Argument(help="done, retry or fail.")],
    result: Annotated[str | None, typer.Option(metavar="JSON|@FILE", help="With done: the job's result.")] = None,
    why: Annotated[str, typer.Option(help="For the job's history.")] = "",
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Say of a held job whether its effect happened (done), is to be tried again (retry), or failed for good (fail)."""
    from offload.cli.jobs import service as asked

    with service_of(environment) as jobs:
        kind = asked.job_type_of(jobs.get(job_id).type)
        given = None if result is None else asked.typed(result, kind.result, "--result")
        job = jobs.decide(kind, job_id, decision.value, result=given, why=why)
    _said(job, as_json)


@app.command()
def answer(
    job_id: JobArgument,
    said: Annotated[YesOrNo, typer.Argument(help="yes or no.")],
    by: Annotated[str, typer.Option(help="Who says it.")] = "",
    note: Annotated[str, typer.Option(help="What the job is to know besides.")] = "",
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Answer what a long job asks (`offload jobs show` has the question)."""
    with service_of(environment) as jobs:
        job = jobs.answer(job_id, yes=said is YesOrNo.YES, by=by, note=note)
    _said(job, as_json)


@app.command()
def result(
    job_id: JobArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result there.")] = None,
    files: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Fetch the files that the result names.")] = None,
    environment: EnvironmentOption = "local",
    as_json: Annotated[bool, typer.Option("--json", help="The result is JSON in any case.")] = False,  # noqa: ARG001
) -> None:
    """Print a job's result, or write it to a file; fetch the files that it names."""
    from offload.cli.deployment.resources import Deployment
    from offload.cli.jobs import service as asked
    from offload.client.jobs import NotSucceeded

    with service_of(environment) as jobs:
        job = jobs.get(job_id)
        if not job.state.ended:
            raise Failure(f"job {job_id} is {job.state}: `offload jobs watch {job_id}` shows how far it is")
        try:
            document = json.loads(jobs.result_json(job))
        except NotSucceeded as error:
            raise Failure(str(error)) from error
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    try:
        if out is None:
            print_json(document)
        else:
            out.write_text(text, encoding="utf-8")
        if files is not None:
            files.mkdir(parents=True, exist_ok=True)
            deployment = Deployment.of(environment)
            for key in asked.files_of(document):
                target = files / key.rpartition("/")[2]
                deployment.aws.s3.download_file(deployment.job_service.bucket, key, str(target))
                terminal.line(str(target), stderr=True)
    except OSError as error:
        raise Failure(f"{error.filename or out or files}: {error.strerror or error}") from error


@app.command()
def schedules(environment: EnvironmentOption = "local", as_json: JsonOption = False) -> None:
    """List the schedules with their next five fire times."""
    with service_of(environment) as jobs:
        document = jobs.schedules()
    if as_json:
        print_json(document)
        return
    screen = console()
    if not document["schedules"]:
        screen.print("no job type has a schedule")
    for each in document["schedules"]:
        paused = ", paused" if each.get("paused") else ""
        screen.print(f"{each['type']}: {each['cron']} ({each['timezone']}){paused}", markup=False)
        for fire in each.get("next_fires", ()):
            screen.print(f"  {_local(fire, each['timezone'])}", markup=False)


@app.command()
def pause(
    job_type: Annotated[str, typer.Argument(metavar="TYPE")],
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Stop a type's schedule from firing; jobs that are there go on."""
    with service_of(environment) as jobs:
        document = jobs.pause(job_type)
    if as_json:
        print_json(document)
    else:
        console().print(f"the schedule of {job_type} is paused: `offload jobs resume {job_type}`")


@app.command()
def resume(
    job_type: Annotated[str, typer.Argument(metavar="TYPE")],
    environment: EnvironmentOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Let a paused schedule fire again, from now on; what it missed meanwhile is left out."""
    with service_of(environment) as jobs:
        document = jobs.resume(job_type)
    if as_json:
        print_json(document)
    else:
        console().print(f"the schedule of {job_type} fires again")


# -- the service


@contextmanager
def service_of(environment: str) -> Iterator[Jobs]:
    """The job service of an environment; what it refuses becomes a Failure."""
    from offload.cli.deployment.resources import Deployment

    with service_in(Deployment.of(environment)) as jobs:
        yield jobs


@contextmanager
def service_in(deployment: Deployment) -> Iterator[Jobs]:
    """The job service of a deployment; what it refuses becomes a Failure."""
    from offload.cli.jobs import service as asked
    from offload.client.jobs import JobRefused, Unreachable

    try:
        with asked.jobs_of(deployment) as jobs:
            yield jobs
    except (JobRefused, Unreachable) as error:
        raise Failure(str(error)) from error


def _uploaded(jobs: Jobs, file: Path) -> str:
    terminal.line(f"uploading {file} ({file.stat().st_size:,} bytes)", stderr=True)
    try:
        return jobs.upload(file)
    except OSError as error:
        raise Failure(f"{file}: {error.strerror or error}") from error


# -- following one job


def _followed(jobs: Jobs, job_id: str, *, as_json: bool) -> None:
    """Shows a job's progress until it has ended, then the job; exit code 1 when it has not succeeded."""
    from offload.cli.jobs import service as asked
    from offload.client.jobs import NotSucceeded

    job = watched(jobs, job_id)
    document = asked.document_of(job)
    try:
        content = json.loads(jobs.result_json(job))
    except NotSucceeded:
        content = None
    if as_json:
        print_json(document if content is None else {**document, "result": content})
    elif content is None:
        _show(job)
    else:
        console().print(f"{job.id} {job.state} in attempt {job.attempt}", markup=False)
        print_json(content)
    if content is None:
        raise typer.Exit(1)


def watched(jobs: Jobs, job_id: str) -> Job:
    """The job once it has ended; draws its progress on stderr, on a terminal as a bar, elsewhere a line a change."""
    screen = console(stderr=True)
    with _drawing(screen) as draw:
        while True:
            job = jobs.get(job_id)
            draw(job)
            if job.state.ended:
                return job
            time.sleep(_LOOK_EVERY)


@contextmanager
def _drawing(screen: Any) -> Iterator[Callable[[Job], None]]:
    if screen.is_terminal:
        with _bar(screen) as bar:
            task = bar.add_task("", total=None, says="")

            def draw(job: Job) -> None:
                progress = job.progress
                known = progress is not None and progress.total is not None
                bar.update(
                    task,
                    description=f"{job.type} {job.state}",
                    completed=progress.done if progress else 0,
                    total=progress.total if known and progress else None,
                    says=terminal.visible(_says(job)),
                )

            yield draw
        return
    last = ""

    def say(job: Job) -> None:
        nonlocal last
        line = " ".join(part for part in (job.state.value, _says(job)) if part)
        if line != last:
            screen.print(line, markup=False)
        last = line

    yield say


def _bar(screen: Any) -> Bar:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[says]}", markup=False),
        console=screen,
        transient=True,
    )


# -- printing


def _said(job: Job, as_json: bool, more: str = "") -> None:
    from offload.cli.jobs import service as asked

    if as_json:
        print_json(asked.document_of(job))
    else:
        console().print(f"{job.id} {job.state}{f': {more}' if more else ''}", markup=False)


def _says(job: Job) -> str:
    """What there is to say of a job in a line: its progress, what it waits for, its error."""
    state = job.state.value
    if state == "failed":
        return job.error or ""
    if state == "waiting":
        # The first entry is the submit; later ones say what the job waits for: its children, its next attempt.
        why = job.history[-1].why if len(job.history) > 1 else ""
        until = f"until {_short(job.run_at)}" if job.run_at and job.run_at > datetime.now(UTC) else ""
        return ", ".join(part for part in (why, until) if part)
    if state == "held":
        return f"a person decides: offload jobs decide {job.id} done|retry|fail"
    progress = job.progress
    if progress is None or job.state.ended:
        return ""
    count = f"{progress.done:,}" + (f" of {progress.total:,}" if progress.total is not None else "")
    finish = f"until {_short(progress.finish_at)}" if progress.finish_at else ""
    return " ".join(part for part in (count, progress.message, finish) if part)


def _show(job: Job) -> None:
    screen = console()
    facts = {
        "id": job.id,
        "type": job.type,
        "state": f"{job.state} (cancel asked for)" if job.cancel_requested and not job.state.ended else job.state,
        "attempt": job.attempt,
        "priority": job.priority,
        "input": bytes(job.input).decode(),
        "run at": _short(job.run_at),
        "says": _says(job),
        "step": job.progress.step if job.progress else None,
        "asks": f"{job.question.text} (until {_short(job.question.until)})" if job.question else "",
        "result": bytes(job.result).decode() if job.result is not None else job.result_ref,
        "tags": ", ".join(job.tags),
        "key": job.key,
        "parent": job.parent,
        "retry of": job.retry_of,
        "lease until": _short(job.lease_until) if job.state.value == "running" else "",
    }
    for name, value in facts.items():
        if value not in (None, ""):
            screen.print(f"{name:<12}{value}", markup=False, soft_wrap=True)
    entries = [(_precise(entry), entry.state.value, str(entry.attempt), entry.why) for entry in job.history]
    print_columns([("at (UTC)", "state", "attempt", "why"), *entries])


def _tree(jobs: Jobs, job: Job, depth: int = 1) -> list[tuple[str, ...]]:
    """A job's children with theirs, as rows; of a job with many the first ones."""
    from offload.client.jobs import JobRefused

    rows: list[tuple[str, ...]] = [("children", "type", "state")] if depth == 1 and job.children else []
    for child_id in job.children[:_CHILDREN_SHOWN]:
        try:
            child = jobs.get(child_id)
        except JobRefused as refused:
            if refused.type != "no-such-job":
                raise
            rows.append(("  " * depth + child_id, "not kept any more", ""))
            continue
        rows.append(("  " * depth + child.id, child.type, child.state.value))
        rows += _tree(jobs, child, depth + 1)
    if (left := len(job.children) - _CHILDREN_SHOWN) > 0:
        rows.append(("  " * depth + f"and {left} more", "", ""))
    return rows


def _precise(entry: Transition) -> str:
    return f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3]


def _short(moment: datetime | None) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}" if moment else ""


def _local(fire: str, timezone: str) -> str:
    from zoneinfo import ZoneInfo

    return f"{datetime.fromisoformat(fire).astimezone(ZoneInfo(timezone)):%a %Y-%m-%d %H:%M %Z}"


def _type_cells(each: Any) -> tuple[str, ...]:
    marks = [name for name in ("durable", "scheduled") if each[name]] + (
        [] if each["repeatable"] else ["not repeatable"]
    )
    return (
        each["name"],
        _fields(each["input"]),
        f"{each['timeout_seconds']:g} s",
        str(each["attempts"]),
        ", ".join(each["lanes"]),
        ", ".join(marks),
    )


def _fields(schema: Any) -> str:
    """The fields of a JSON Schema's object; those that may be left out in brackets."""
    root = schema["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    names = root.get("properties", {})
    return ", ".join(name if name in root.get("required", ()) else f"[{name}]" for name in names)
