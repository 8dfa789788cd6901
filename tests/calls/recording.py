"""Sees the calls to AWS that functions make: whose call, the action of IAM that it needs, and on what.

It runs in the tests' own process and, before everything else, in the workers of the embedded AWS, so it imports the
standard library alone. A resource is named by the variable from which the function has it (`LEDGER_TABLE`): the name
itself is made up by a test, and what the variable holds on AWS is said by the template.
"""

from __future__ import annotations

import importlib.machinery
import json
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple

from offload.contracts.functions import own, source_of

FOLDER_VARIABLE: Final = "OFFLOAD_CALLS_FOLDER"
"""The folder that every process leaves its calls in, a file each."""

UNKNOWN: Final = "?"
"""A resource of which no variable says where the function has it from."""

_API: Final = "docs.aws.amazon.com/amazondynamodb/latest/APIReference/"
_S3: Final = "docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html"
_MULTIPART: Final = "docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html#mpuAndPermissions"
_SQS: Final = "docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-api-permissions-reference.html"
_INVOKE: Final = "docs.aws.amazon.com/lambda/latest/api/API_Invoke.html"

ACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    # The action that an operation needs where it is not of the operation's name, and who says so (read 2026-11-29).
    "s3:HeadObject": ("s3:GetObject", _S3),
    "s3:HeadBucket": ("s3:ListBucket", _S3),
    "s3:ListObjects": ("s3:ListBucket", _S3),
    "s3:ListObjectsV2": ("s3:ListBucket", _S3),
    "s3:DeleteObjects": ("s3:DeleteObject", _S3),
    "s3:CreateMultipartUpload": ("s3:PutObject", _MULTIPART),
    "s3:UploadPart": ("s3:PutObject", _MULTIPART),
    "s3:CompleteMultipartUpload": ("s3:PutObject", _MULTIPART),
    "s3:ListParts": ("s3:ListMultipartUploadParts", _MULTIPART),
    "sqs:SendMessageBatch": ("sqs:SendMessage", _SQS),
    "sqs:DeleteMessageBatch": ("sqs:DeleteMessage", _SQS),
    "sqs:ChangeMessageVisibilityBatch": ("sqs:ChangeMessageVisibility", _SQS),
    "lambda:Invoke": ("lambda:InvokeFunction", _INVOKE),
}
TRANSACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    # transaction-apis-iam.html: a transaction needs the permissions of what it does, and none of its own.
    "Put": ("dynamodb:PutItem", _API + "API_TransactWriteItems.html"),
    "Update": ("dynamodb:UpdateItem", _API + "API_TransactWriteItems.html"),
    "Delete": ("dynamodb:DeleteItem", _API + "API_TransactWriteItems.html"),
    "ConditionCheck": ("dynamodb:ConditionCheckItem", _API + "API_TransactWriteItems.html"),
    "Get": ("dynamodb:GetItem", _API + "API_TransactGetItems.html"),
}

_EXECUTION: Final = re.compile("DurableExecution")


class Name(NamedTuple):
    """A resource as a request names it: its kind, the name, and what of it is meant (an index, a key's prefix)."""

    kind: str
    name: str
    part: str = ""


class Caller(NamedTuple):
    """Whose call it is: a function's source, or `@pattern` for what every function of a pattern does.

    `job` is the job type that a pattern's own handler runs.
    """

    name: str
    job: str = ""


class Call(NamedTuple):
    """A line of the record."""

    caller: str
    action: str
    resource: str


def needs(service: str, operation: str, params: Mapping[str, Any]) -> Iterator[tuple[str, Name]]:
    """The actions that a request needs, each with the resource that it needs it on."""
    if operation == "TransactWriteItems" or operation == "TransactGetItems":
        for item in params["TransactItems"]:
            for what, request in item.items():
                yield TRANSACTIONS[what][0], Name("table", request["TableName"])
        return
    if operation in ("BatchGetItem", "BatchWriteItem"):
        for table in params["RequestItems"]:
            yield f"{service}:{operation}", Name("table", table)
        return
    if operation == "PutEvents":
        for entry in params["Entries"]:
            yield "events:PutEvents", Name("bus", entry.get("EventBusName", "default"), f" from {entry['Source']}")
        return
    if operation == "StartReplay":
        yield "events:StartReplay", Name("archive", params["EventSourceArn"])
        yield "events:StartReplay", Name("bus", params["Destination"]["Arn"])
    action = ACTIONS.get(f"{service}:{operation}", (f"{service}:{operation}", ""))[0]
    yield action, _named(service, operation, params)


def _named(service: str, operation: str, params: Mapping[str, Any]) -> Name:
    if service == "dynamodb" and "TableName" in params:
        index = params.get("IndexName")
        return Name("table", params["TableName"], f"/index/{index}" if index else "")
    if "QueueOwnerAWSAccountId" in params:
        return Name("destination", params["QueueName"])
    if service == "sqs":
        return Name("queue", params.get("QueueUrl") or params["QueueName"])
    if service == "s3" and "Key" in params:
        folder, slash, _ = params["Key"].partition("/")
        return Name("bucket", params["Bucket"], f"/{folder}/*" if slash else "/*")
    if service == "s3":
        return Name("bucket", params["Bucket"])
    if service == "secretsmanager":
        return Name("secret", params["SecretId"])
    if service == "ssm" and "Name" in params:
        return Name("parameter", params["Name"])
    if _EXECUTION.search(operation):
        return Name("execution", "")
    if service == "lambda" and "FunctionName" in params:
        return Name("function", params["FunctionName"])
    if "ReplayName" in params:
        return Name("replay", params["ReplayName"].partition("-")[0] + "-*")
    return Name("unknown", "")


# What a variable's name ends in, of each kind: where tests give one name to resources of several.
_ENDINGS: Final = {
    "table": ("_TABLE", ".table"),
    "bucket": ("_BUCKET",),
    "bus": ("_BUS",),
    "queue": ("_URL",),
    "secret": ("SECRET", ".secret"),
}


class Names:
    """Where functions have the names of resources from."""

    def __init__(self) -> None:
        self._told: dict[str, set[str]] = {}
        # What variables held before: a test's second environment takes the place of its first.
        self._set: dict[str, set[str]] = {}
        # Names that came out of an answer: a queue's URL by the parameter that had it.
        self._learned: dict[str, tuple[str, str]] = {}

    def tell(self, name: str, variable: str) -> None:
        """What a test hands to a function's code itself has its name from this variable, where it is deployed."""
        self._told.setdefault(name, set()).add(variable)

    def was_set(self, variable: str, value: str) -> None:
        """A test has set a variable."""
        for name, content in _fields(variable, value):
            self._set.setdefault(content, set()).add(name)

    def learn(self, name: str, source: str, suffix: str) -> None:
        """A name that an answer contained: what it was asked for by, and what is written behind that."""
        self._learned[name] = (source, suffix)

    def resource(self, named: Name, caller: Caller) -> str:
        """How the record writes it; UNKNOWN where nobody said."""
        if named.kind == "execution":
            return "durable executions"
        if named.kind == "destination":
            return "destinations"
        if named.kind == "replay":
            return f"replays {named.name}"
        if named.kind == "parameter":
            return self._parameter(named.name, caller)
        if named.name in self._learned:
            source, suffix = self._learned[named.name]
            if not source:
                return suffix
            parameter = self._parameter(source, caller)
            return parameter if parameter == UNKNOWN else f"{parameter} {suffix}"
        if caller.name == "@integration":
            # Whichever integration it is: each keeps these two under the same names.
            fields = {"table": "OFFLOAD_CALLS_*.table", "secret": "OFFLOAD_CALLS_*.secret"}
            return fields.get(named.kind, UNKNOWN)
        variable = self._variable(named)
        if variable is None and named.kind == "bus" and named.name.startswith("arn:"):
            return "destinations"
        return UNKNOWN if variable is None else variable + named.part

    def _parameter(self, name: str, caller: Caller) -> str:
        folder, _, last = name.rpartition("/")
        for variable, value in sorted(os.environ.items()):
            if value == folder and variable.endswith("_PATH"):
                job_type = _job_type(last, caller)
                return UNKNOWN if job_type == UNKNOWN else f"{variable}/{job_type}"
        return UNKNOWN

    def _variable(self, named: Name) -> str | None:
        found: Iterable[str] = self._told.get(named.name, ())
        found = found or [
            name
            for variable, value in os.environ.items()
            for name, content in _fields(variable, value)
            if content == named.name
        ]
        found = found or self._set.get(named.name, ())
        fitting = [variable for variable in found if variable.endswith(_ENDINGS.get(named.kind, ""))]
        return min(fitting or found, default=None)


# Functions that take jobs of every type, whatever the types are that their tests make up.
_OF_EVERY_TYPE: Final = frozenset(map(own, ("jobs_api", "job_sweeper", "job_submitter")))


def _job_type(name: str, caller: Caller) -> str:
    if caller.name in _OF_EVERY_TYPE:
        return "*"
    mine = os.environ.get("OFFLOAD_JOB", "")
    if caller.name == own("job_starter") or (caller.job and name == caller.job):
        return "{OFFLOAD_JOB}"
    if caller.name.startswith("@"):
        return UNKNOWN
    return "{OFFLOAD_JOB}" if name == mine else name


def _fields(variable: str, value: str) -> Iterator[tuple[str, str]]:
    """A variable with its value; of one that holds JSON each of its fields too, `OFFLOAD_CALLS_SLACK.table`."""
    yield variable, value
    if value.startswith("{"):
        try:
            content = json.loads(value)
        except ValueError:
            return
        yield from ((f"{variable}.{key}", field) for key, field in content.items() if isinstance(field, str))


# Whose call it is ----


class _Acting(threading.local):
    """Whose work a thread does. Not a context variable: asyncio hands a thread the context of before."""

    by: Caller | None = None


_acting: Final = _Acting()
_makers: weakref.WeakKeyDictionary[object, str] = weakref.WeakKeyDictionary()
"""Handlers by the function whose module made them."""

_PATTERNS: Final = {
    ("offload.runtime.events.consumer", "_Consumer"): "@consumer",
    ("offload.runtime.jobs.run", "AttemptHandler"): "@job",
    ("offload.runtime.jobs.durable", "LongJobHandler"): "@long_job",
    ("offload.runtime.http.client", "Client"): "@integration",
    ("offload.runtime.http.breaker", "Breaker"): "@integration",
    ("offload.runtime.http.rate", "Bucket"): "@integration",
    ("offload.runtime.jobs.starter", "Starter"): own("job_starter"),
    ("offload.runtime.webhooks_out.sender", "Sender"): own("delivery_sender"),
    ("offload.runtime.webhooks_out.subscribing", "Subscribing"): own("subscriptions_api"),
}
"""Classes that do a pattern's part for every function of it, or all that one function does."""

_OF_A_JOB: Final = frozenset({"@job", "@long_job"})

_FUNCTION: Final = re.compile(r"(lambdas|offload\.functions)\.([a-z0-9_]+)(\.|$)")


def _function_of(module: str) -> str | None:
    """The source of the function that a module belongs to."""
    match = _FUNCTION.match(module)
    return source_of(f"{match[1]}.{match[2]}.handler.handler") if match else None


@contextmanager
def acting_as(function: str) -> Iterator[None]:
    """Within it calls are those of a function: for tests of what a function's module only puts together."""
    before, _acting.by = _acting.by, Caller(function)
    try:
        yield
    finally:
        _acting.by = before


def caller() -> Caller | None:
    """Whose call the running code would make; None where it is a test's own.

    The innermost frame says it: of a function's module, of a handler that a function's module made, or of a test. A
    handler that a test made is its pattern's. A thread of a pool goes by who handed it the work.
    """
    frame: FrameType | None = sys._getframe(1)
    pattern: Caller | None = None
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if function := _function_of(module):
            return Caller(function, pattern.job if pattern else "")
        if module.startswith("tests.") and module != __name__:
            break
        me = frame.f_locals.get("self")
        if me is not None and (kind := _pattern_of(type(me))):
            job = getattr(getattr(me, "type", None), "name", "") if kind in _OF_A_JOB else ""
            by = Caller(_makers.get(me, kind), job)
            if not by.name.startswith("@"):
                return by
            pattern = pattern or by
        frame = frame.f_back
    return pattern if pattern is not None else _acting.by


def _pattern_of(kind: type) -> str | None:
    for base in kind.__mro__:
        if found := _PATTERNS.get((base.__module__, base.__qualname__)):
            return found
    return None


def _remember_maker(kind: Any) -> None:
    """Lets every handler of a class know the function whose module makes it."""
    make = kind.__init__

    def __init__(self: Any, *arguments: Any, **options: Any) -> None:  # noqa: N807
        make(self, *arguments, **options)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if function := _function_of(frame.f_globals.get("__name__") or ""):
                _makers[self] = function
                return
            frame = frame.f_back

    kind.__init__ = __init__


# What is seen ----


class Recorder:
    """Writes each call once. `whose` says which function made it; calls of no function are not written."""

    def __init__(self, folder: str, whose: Callable[[], Caller | None]) -> None:
        self.names: Final = Names()
        self._folder = folder
        self._whose = whose
        self._seen: set[Call] = set()
        self._lock = threading.Lock()

    def saw(self, service: str, operation: str, params: Mapping[str, Any]) -> None:
        """A request is about to be made, or a URL for one to be signed."""
        by = self._whose()
        if by is None:
            return
        for action, named in needs(service, operation, params):
            self._write(Call(by.name, action, self.names.resource(named, by)), named)

    def _write(self, call: Call, named: Name) -> None:
        if call.resource == UNKNOWN:
            if call.caller.startswith("@"):
                return  # what a test's own handler does for itself
            call = call._replace(resource=f"{UNKNOWN} {named.kind} {named.name}")
        with self._lock:
            if call in self._seen:
                return
            self._seen.add(call)
            line = json.dumps([*call, os.environ.get("PYTEST_CURRENT_TEST", "a function of the embedded AWS")])
            with open(os.path.join(self._folder, f"{os.getpid()}.jsonl"), "a", encoding="utf-8") as file:  # noqa: PTH118, PTH123 -- a worker starts faster without pathlib
                file.write(line + "\n")

    def install(self) -> None:
        """From now on sees what botocore's clients and the lean one do in this process."""
        _when_imported("botocore.session", self._watch_botocore)
        _when_imported("offload.runtime.lean_aws", self._watch_lean_client)
        for (module, name), _ in _PATTERNS.items():
            _when_imported(module, partial(_remember_maker_of, name))
        self._watch_threads()

    def _watch_botocore(self, module: Any) -> None:
        create = module.Session.create_client
        recorder = self

        def create_client(session: Any, *arguments: Any, **options: Any) -> Any:
            client = create(session, *arguments, **options)
            client.meta.events.register("provide-client-params", recorder._asked)
            client.meta.events.register("after-call", recorder._answered)
            return client

        module.Session.create_client = create_client

    def _asked(self, params: Mapping[str, Any], model: Any, **_: object) -> None:
        self.saw(model.service_model.service_name, model.name, params)

    def _answered(self, parsed: Mapping[str, Any], model: Any, **_: object) -> None:
        if model.name == "GetParameter" and "Parameter" in parsed:
            try:
                queues = json.loads(parsed["Parameter"]["Value"])["queues"].values()
            except (ValueError, KeyError, TypeError, AttributeError):
                return
            for url in queues:
                self.names.learn(url, parsed["Parameter"]["Name"], "queues")
        elif model.name == "GetQueueUrl" and "QueueUrl" in parsed and self._whose() is not None:
            self.names.learn(parsed["QueueUrl"], "", "destinations")

    def _watch_lean_client(self, module: Any) -> None:
        call = module.Service.call
        recorder = self

        def recorded(service: Any, action: str, request: dict[str, Any], **options: Any) -> Any:
            recorder.saw(service.name, action, request)
            return call(service, action, request, **options)

        module.Service.call = recorded

    def _watch_threads(self) -> None:
        submit = ThreadPoolExecutor.submit
        whose = self._whose

        def handed(pool: ThreadPoolExecutor, work: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
            by = whose()
            if by is None:
                return submit(pool, work, *arguments, **options)

            def run() -> Any:
                before, _acting.by = _acting.by, by
                try:
                    return work(*arguments, **options)
                finally:
                    _acting.by = before

            return submit(pool, run)

        ThreadPoolExecutor.submit = handed  # type: ignore[method-assign, assignment]


class _Finder:
    """Does something with modules as soon as they are imported."""

    def __init__(self) -> None:
        self.wanted: dict[str, list[Callable[[ModuleType], None]]] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's usual spec, with a loader that tells of the end of its import."""
        if name not in self.wanted:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return spec
        load: Callable[[ModuleType], None] = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            load(module)
            for change in self.wanted.pop(name, []):
                change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


_finder: Final = _Finder()


def _remember_maker_of(name: str, module: Any) -> None:
    _remember_maker(getattr(module, name))


def _when_imported(name: str, change: Callable[[Any], None]) -> None:
    if name in sys.modules:
        change(sys.modules[name])
        return
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _finder.wanted.setdefault(name, []).append(change)


# In the workers of the embedded AWS ----


def in_worker() -> None:
    """Records the calls of a worker: its function is the one whose module is imported."""

    def whose() -> Caller | None:
        for module in tuple(sys.modules):
            if function := _function_of(module):
                return Caller(function)
        return None

    Recorder(os.environ[FOLDER_VARIABLE], whose).install()
