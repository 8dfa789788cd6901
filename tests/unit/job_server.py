"""An HTTP server that speaks the job service's API, checks every signature, and misbehaves when told to."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from offload.contracts.jobs.job import Job, Progress, State, Submit, Transition
from shop.catalogue import CATALOGUE

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
            "type": "sales_report",
            "cron": "0 2 * * *",
            "timezone": "Europe/London",
            "paused": "sales_report" in self.paused,
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


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    jobs: JobServer

    def do_GET(self) -> None:
        self._do()

    def do_POST(self) -> None:
        self._do()

    def do_PUT(self) -> None:
        self._do()

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.jobs.lock:
            self.jobs.requests.append((self.command, urlsplit(self.path).path, headers, body))
            fault = self.jobs.faults.pop(0) if self.jobs.faults else Fault()
            status, content, more = self._worked(fault, headers, body)
        if fault.slow:
            time.sleep(fault.slow)
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        if fault.status:
            status, content = fault.status, fault.body or b'{"message":"Service Unavailable"}'
        self.send_response(status)
        for name, value in (*more.items(), *fault.headers):
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _worked(self, fault: Fault, headers: dict[str, str], body: bytes) -> tuple[int, bytes, dict[str, str]]:
        if not fault.take:
            return 503, b"", {}
        path = urlsplit(self.path).path
        if path.startswith("/files/"):
            assert "authorization" not in headers, "a presigned URL refuses a second signature"
            if self.command == "PUT":
                assert "transfer-encoding" not in headers, "S3 wants the length"
                self.jobs.files[path.removeprefix("/files/")] = body
            return 200, self.jobs.files.get(path.removeprefix("/files/"), b""), {}
        if not _is_signed(self.command, f"http://{headers['host']}{self.path}", headers, body):
            return 403, b'{"message":"Forbidden"}', {}
        try:
            status, document, more = self.jobs.answer(self.command, self.path, headers, body)
        except Refused as refused:
            return refused.status, msgspec.json.encode(refused.document()), {}
        return status, msgspec.json.encode(document), more

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Says nothing."""

    def finish(self) -> None:
        try:
            super().finish()
        except OSError:
            return

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return


@contextmanager
def serving_jobs() -> Iterator[JobServer]:
    """Runs a server on a free port of this machine."""
    jobs = JobServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"jobs": jobs}))
    server.daemon_threads = True
    jobs.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield jobs
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
