"""An HTTP server that speaks the job service's API, checks every signature, and misbehaves when told to."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from clinic.catalogue import CATALOGUE
from offload.contracts.jobs.job import Job, Progress, State, Submit, Transition
from tests.odd_server import Behaviour, Received, answer, by_request, odd_server, reset

CREDENTIALS = Credentials("AKIDEXAMPLE", "secret")
REGION = "eu-west-1"
MOMENT = datetime(2026, 11, 24, 2, tzinfo=UTC)


@dataclass(frozen=True)
class Fault:
    """How the server treats one request."""

    status: int = 0
    """Answer with this status and no work done."""
    reset: bool = False
    """Break the connection in place of the answer."""
    take: bool = True
    """Whether the work is done, whatever becomes of the answer."""
    slow: float = 0.0
    """Seconds before the answer."""
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    def __init__(self, status: int, slug: str, detail: str = "") -> None:
        super().__init__(slug)
        self.status, self.slug, self.detail = status, slug, detail

    def document(self) -> dict[str, Any]:
        problem = f"urn:offload:problem:{self.slug}"
        return {"type": problem, "title": self.slug.title(), "status": self.status, "detail": self.detail}


class JobServer:
    """What the server was asked, and the jobs that it has."""

    def __init__(self) -> None:
        self.url = ""
        self.faults: list[Fault] = []
        """For the next requests, in their order."""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.jobs: dict[str, Job] = {}
        self.contents: dict[str, bytes] = {}
        """What was submitted under an idempotency key."""
        self.refuse: dict[bytes, Refused] = {}
        """Refusals of single jobs, by their input."""
        self.files: dict[str, bytes] = {}
        self.storage = ""
        """Where presigned URLs lead, when not to this server itself."""
        self.paused: list[str] = []
        self.looks: dict[str, list[Job]] = {}
        """What the next looks at a job show; the last stays."""
        self.lock = threading.Lock()

    def end(self, job_id: str, state: State, *, result: bytes = b"", error: str | None = None) -> None:
        """Ends a job."""
        job = self.jobs[job_id]
        given = msgspec.Raw(result) if result else msgspec.UNSET
        self.jobs[job_id] = msgspec.structs.replace(job, state=state, attempt=1, result_json=given, error=error)

    def posts(self, path: str) -> list[bytes]:
        """The bodies that were posted to a path."""
        return [body for method, asked, _, body in self.requests if (method, asked) == ("POST", path)]

    def behaviour(self, request: Received) -> Behaviour:
        """What the service answers, or the request's Fault says."""
        with self.lock:
            self.requests.append((request.method, urlsplit(request.path).path, request.headers, request.body))
            fault = self.faults.pop(0) if self.faults else Fault()
            status, content, headers = self._worked(fault, request)
        if fault.slow:
            time.sleep(fault.slow)
        if fault.reset:
            return reset()
        if fault.status:
            status, content = fault.status, fault.body or b'{"message":"Service Unavailable"}'
        return answer(status, content, {**headers, **dict(fault.headers)})

    def _worked(self, fault: Fault, request: Received) -> tuple[int, bytes, dict[str, str]]:
        if not fault.take:
            return 503, b"", {}
        path, headers, body = urlsplit(request.path).path, request.headers, request.body
        if path.startswith("/files/"):
            assert "authorization" not in headers, "a presigned URL refuses a second signature"
            if request.method == "PUT":
                assert "transfer-encoding" not in headers, "S3 wants the length"
                self.files[path.removeprefix("/files/")] = body
            return 200, self.files.get(path.removeprefix("/files/"), b""), {}
        if not _is_signed(request.method, f"http://{headers['host']}{request.path}", headers, body):
            return 403, b'{"message":"Forbidden"}', {}
        try:
            status, document, more = self.answer(request.method, request.path, headers, body)
        except Refused as refused:
            return refused.status, msgspec.json.encode(refused.document()), {}
        return status, msgspec.json.encode(document), more

    # -- the service

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
        parts = urlsplit(target)
        path, query = parts.path, dict(parse_qsl(parts.query))
        names = [unquote(name) for name in path.strip("/").split("/")]
        match method, names:
            case "POST", ["jobs"]:
                return self._submit(msgspec.json.decode(body, type=Submit), headers.get("idempotency-key"))
            case "POST", ["jobs", "bulk"]:
                wishes = msgspec.json.decode(body, type=dict[str, list[Submit]])["jobs"]
                return 200, {"jobs": [self._one(wish) for wish in wishes]}, {}
            case "GET", ["jobs"]:
                return self._page(query)
            case "GET", ["jobs", job_id]:
                return 200, self._job(job_id), {}
            case "GET", ["jobs", job_id, "result"]:
                return 303, {}, {"location": f"{self._storage}/results/{job_id}.json?X-Amz-Signature=presigned"}
            case "POST", ["jobs", job_id, "cancel"]:
                if self._job(job_id).state.ended:
                    raise Refused(409, "already-ended", f"job {job_id} has ended")
                self.end(job_id, State.CANCELLED)
                return 200, self.jobs[job_id], {}
            case "POST", ["jobs", job_id, "retry"]:
                old = self._job(job_id)
                changed = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).get("input", old.input)
                wish = Submit(type=old.type, input=changed, retry_of=job_id)
                _, job, _ = self._submit(wish, headers.get("idempotency-key"))
                return 201, job, {}
            case "POST", ["jobs", job_id, "decide"]:
                if self._job(job_id).state is not State.HELD:
                    raise Refused(409, "not-held", f"job {job_id} is not held")
                asked = msgspec.json.decode(body)
                end = {"done": State.SUCCEEDED, "retry": State.WAITING, "fail": State.FAILED}[asked["decision"]]
                self.end(job_id, end, error=asked["why"] or None, result=msgspec.json.encode(asked.get("result", {})))
                return 200, self.jobs[job_id], {}
            case "GET", ["job-types"]:
                return 200, {"job_types": [_described(each) for each in CATALOGUE.job_types.values()]}, {}
            case "GET", ["schedules"]:
                return 200, {"schedules": [self._schedule()]}, {}
            case "POST", ["schedules", name, ("pause" | "resume") as what]:
                self.paused = [name] if what == "pause" else []
                return 200, self._schedule(), {}
            case "POST", ["uploads"]:
                key = f"uploads/1/{msgspec.json.decode(body)['name']}"
                return 201, {"key": key, "url": f"{self._storage}/{key}?X-Amz-Signature=presigned", "headers": {}}, {}
        raise Refused(404, "no-such-path")

    @property
    def _storage(self) -> str:
        return self.storage or f"{self.url}/files"

    def _submit(self, wish: Submit, key: str | None) -> tuple[int, Job, dict[str, str]]:
        if refused := self.refuse.get(bytes(wish.input)):
            raise refused
        key = key or wish.idempotency_key
        assert key, "every submit has a key"
        content = msgspec.json.encode(msgspec.structs.replace(wish, idempotency_key=None))
        job_id = f"job-{key}"
        if key in self.contents:
            if self.contents[key] != content:
                raise Refused(409, "idempotency-conflict", "take another key for another job")
            return 200, self.jobs[job_id], {}
        self.contents[key] = content
        self.jobs[job_id] = Job(
            id=job_id,
            type=wish.type,
            state=State.WAITING if wish.delay or wish.run_at else State.QUEUED,
            attempt=0,
            input=wish.input,
            created_at=MOMENT,
            changed_at=MOMENT,
            priority=wish.priority,
            run_at=wish.run_at,
            tags=wish.tags,
            retry_of=wish.retry_of,
            traceparent=wish.traceparent,
            history=(Transition(at=MOMENT, state=State.QUEUED, attempt=0, why="submitted"),),
        )
        return 201, self.jobs[job_id], {}

    def _one(self, wish: Submit) -> dict[str, Any]:
        try:
            status, job, _ = self._submit(wish, None)
        except Refused as refused:
            return {"status": refused.status, "problem": refused.document()}
        return {"status": status, "job": job}

    def _page(self, query: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        found = [
            job
            for job in reversed(self.jobs.values())
            if query.get("type", job.type) == job.type
            and query.get("state", job.state) == job.state
            and (query.get("tag") is None or query["tag"] in job.tags)
        ]
        begin = int(query.get("cursor", "0").partition("#")[0])
        end = begin + int(query.get("limit", "50"))
        return 200, {"jobs": found[begin:end], "cursor": f"{end}#?&" if end < len(found) else None}, {}

    def _job(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise Refused(404, "no-such-job", f"there is no job {job_id}")
        if looks := self.looks.get(job_id):
            self.jobs[job_id] = looks.pop(0)
        return self.jobs[job_id]

    def _schedule(self) -> dict[str, Any]:
        return {
            "type": "ward_report",
            "cron": "0 2 * * *",
            "timezone": "Europe/London",
            "paused": "ward_report" in self.paused,
            "next_fires": ["2026-11-25T02:00:00Z", "2027-06-01T01:00:00Z"],
        }


def _described(job_type: Any) -> dict[str, Any]:
    return {
        "name": job_type.name,
        "timeout_seconds": job_type.timeout.total_seconds(),
        "attempts": job_type.retry.attempts,
        "lanes": list(job_type.lanes),
        "durable": job_type.durable,
        "repeatable": job_type.repeatable,
        "scheduled": job_type.schedule is not None,
        "input": msgspec.json.schema(job_type.input),
    }


def at_work(job: Job, done: int, total: int, message: str = "") -> Job:
    """The job as it shows while it runs."""
    progress = Progress(done=done, total=total, message=message)
    return msgspec.structs.replace(job, state=State.RUNNING, attempt=1, progress=progress)


def _is_signed(method: str, url: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether the signature is the one that AWS computes from what has arrived."""
    given = headers.get("authorization", "")
    if "SignedHeaders=" not in given or REGION not in given or "/execute-api/" not in given:
        return False
    signed = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest(method=method, url=url, data=body, headers={name: headers[name] for name in signed})
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(CREDENTIALS, "execute-api", REGION)
    canonical: Any = auth.canonical_request(request)
    text = auth.string_to_sign(request, canonical)
    return given.endswith(f"Signature={auth.signature(text, request)}")


@contextmanager
def serving_jobs() -> Iterator[JobServer]:
    """Runs a server on a free port of this machine."""
    jobs = JobServer()
    with odd_server(by_request(jobs.behaviour)) as server:
        jobs.url = server.url("")
        yield jobs
