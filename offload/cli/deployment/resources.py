"""What is deployed in one environment, found by the names that the stacks gave it.

CloudFormation's stacks are asked, and in their templates the path of every construct (`aws:cdk:path`). So nothing has
a physical name, and nothing of this has to be configured.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar, cast

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.deployment.failure import Failure
from offload.contracts.functions import folder_of, own, source_of
from offload.contracts.webhooks_in.stored_secret import PROVIDERS_VARIABLE, SECRET_VARIABLE

_QUEUE = "AWS::SQS::Queue"
_FUNCTION = "AWS::Lambda::Function"
_TABLES = ("AWS::DynamoDB::GlobalTable", "AWS::DynamoDB::Table")
_BUS = "AWS::Events::EventBus"
_RULE = "AWS::Events::Rule"
_BUCKET = "AWS::S3::Bucket"
_HTTP_API = "AWS::ApiGatewayV2::Api"

# aws-attribute-deletionpolicy.html, read 2026-11-29; RetainExceptOnCreate deletes only when a creation is rolled back.
_RETAINING = ("Retain", "RetainExceptOnCreate")

JOBS_API = own("jobs_api")
"""The source of the function behind the job service's API."""
SUBSCRIPTIONS_API = own("subscriptions_api")
"""The source of the function behind the API of subscriptions and deliveries."""
DELIVERY_BATCH = own("delivery_batch")
"""The source of the function that brings a sender's deliveries back."""
WEBHOOK_RECEIVER = own("webhook_receiver")
"""The source of the function behind the ingress of webhooks."""


@dataclass(frozen=True)
class Resource:
    """One deployed resource.

    `path` is its construct's path without the stack and without the trailing `/Resource`; `physical_id` is what
    `Ref` gives: a queue's URL, otherwise a name.
    """

    stack: str
    path: str
    logical_id: str
    type: str
    physical_id: str
    properties: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The construct in the stack that it belongs to."""
        return self.path.partition("/")[0]


@dataclass(frozen=True)
class Function:
    """One deployed function: its construct's name, its source as PythonFunction takes it, its physical names.

    Where several stacks have one of that name, the name begins with its stack's: `offload-dev-shop/Webhooks/Receiver`.
    """

    name: str
    source: str
    function_name: str
    log_group: str
    path: str
    stack: str

    @property
    def folder(self) -> str:
        """The name of the folder that its code is in."""
        return _folder(self.source)


@dataclass(frozen=True)
class Consumer:
    """One deployed consumer. `event_types` are those that its rules pass on, sorted; `name` is as a function's."""

    name: str
    source: str
    event_types: tuple[str, ...]
    queue_url: str
    dead_letter_queue_url: str
    rule_dead_letter_queue_url: str | None
    function_name: str
    log_group: str
    marks_table: str | None
    stack: str

    @property
    def folder(self) -> str:
        """The name of the folder that its function's code is in."""
        return _folder(self.source)


@dataclass(frozen=True)
class JobService:
    """The deployed job service: its API's URL, its table, and the bucket of its files."""

    endpoint: str
    table: str
    bucket: str


@dataclass(frozen=True)
class SubscriptionService:
    """A stack's sender of webhooks: its API's URL, its table of subscriptions and deliveries, its sealing key.

    `recovery` is the job type that brings its deliveries back; None where the stack has no such job.
    """

    endpoint: str
    table: str
    sealing_secret: str
    stack: str
    recovery: str | None


@dataclass(frozen=True)
class WebhookEntry:
    """A stack's ingress of webhooks: its API's URL, its table, the secret of all its providers, and their names."""

    endpoint: str
    table: str
    secret: str
    providers: tuple[str, ...]
    stack: str

    def url(self, provider: str, endpoint: str = "") -> str:
        """What is typed into a sender's settings."""
        return f"{self.endpoint}/webhooks/{provider}" + (f"/{endpoint}" if endpoint else "")


@dataclass(frozen=True)
class DeployedStack:
    """One stack: its name, CloudFormation's status of it, its template, and the values of its outputs."""

    name: str
    status: str
    template: Mapping[str, Any]
    outputs: tuple[str, ...] = ()

    def retains(self, logical_id: str) -> bool:
        """Whether a resource of its template stays when the stack is deleted."""
        return self.template.get("Resources", {}).get(logical_id, {}).get("DeletionPolicy") in _RETAINING


class InStack(Protocol):
    """Something that stacks have: `stack` is the name of its own."""

    @property
    def stack(self) -> str:
        """The stack's name."""


InStackT = TypeVar("InStackT", bound=InStack)
_NamedT = TypeVar("_NamedT", Function, Consumer)


@dataclass(frozen=True)
class Deployment:
    """One environment as it is deployed. What is read is kept: make a new one after a deploy."""

    aws: Aws

    @staticmethod
    def of(environment: str) -> Deployment:
        """The deployment of an environment; raises NotRunning for `local` when the embedded AWS is not up."""
        return Deployment(Aws.of(environment))

    @property
    def environment(self) -> str:
        """The environment's name."""
        return self.aws.environment

    @cached_property
    def stacks(self) -> tuple[DeployedStack, ...]:
        """The environment's stacks, sorted by name; raises Failure when there is none."""
        prefix = f"offload-{self.environment}-"
        found = []
        for page in self.aws.cloudformation.get_paginator("describe_stacks").paginate():
            for stack in page["Stacks"]:
                tags = {tag["Key"]: tag["Value"] for tag in stack.get("Tags", ())}
                # The stacks of `dev-2` begin like those of `dev`; they say themselves whose they are.
                if tags.get("environment", self.environment) != self.environment:
                    continue
                if stack["StackName"].startswith(prefix) and stack["StackStatus"] != "DELETE_COMPLETE":
                    outputs = tuple(str(output.get("OutputValue", "")) for output in stack.get("Outputs", ()))
                    found.append((stack["StackName"], str(stack["StackStatus"]), outputs))
        if not found:
            how = "make up" if self.environment == LOCAL else f"make deploy ENV={self.environment}"
            raise Failure(f"nothing is deployed in environment {self.environment}: `{how}`")
        return tuple(
            DeployedStack(name, status, self._template(name), outputs) for name, status, outputs in sorted(found)
        )

    @cached_property
    def resources(self) -> tuple[Resource, ...]:
        """Every resource of the environment that has a construct's path."""
        return tuple(self._read())

    def every(self, *types: str) -> tuple[Resource, ...]:
        """The resources of the given CloudFormation types."""
        return tuple(resource for resource in self.resources if resource.type in types)

    def one(self, name: str, *types: str) -> Resource:
        """The one resource of the types whose construct is `name`, or is inside of it: `Calendar`, `Reminders/Marks`.

        Where several stacks have one, the name begins with its stack's: `offload-dev-shop/Calendar`.

        Raises Failure when there is none, or more than one.
        """
        found = self._called(name, types)
        if len(found) == 1:
            return found[0]
        kinds = " or ".join(kind.rpartition("::")[2] for kind in types)
        shown = found or self.every(*types)
        several = len({each.stack for each in shown}) > 1
        known = ", ".join(f"{each.stack}/{each.path}" if several else each.path for each in shown) or "none"
        problem = "more than one" if found else "no"
        raise Failure(f"environment {self.environment} has {problem} {kinds} called '{name}': {known}")

    @cached_property
    def bus(self) -> str:
        """The event bus's name."""
        buses = self.every(_BUS)
        if len(buses) != 1:
            raise Failure(f"environment {self.environment} has {len(buses)} event buses, and should have one")
        return buses[0].physical_id

    def bus_or_none(self) -> str | None:
        """The event bus's name, None in an environment without one; raises Failure for more than one."""
        return self.bus if self.every(_BUS) else None

    @cached_property
    def archive(self) -> str:
        """The name of the bus's archive; raises Failure when it has none."""
        arn = self.aws.events.describe_event_bus(Name=self.bus)["Arn"]
        archives = self.aws.events.list_archives(EventSourceArn=arn)["Archives"]
        if not archives:
            raise Failure(f"environment {self.environment}: the bus {self.bus} has no archive")
        return archives[0]["ArchiveName"]

    def table(self, name: str) -> str:
        """The physical name of the DynamoDB table whose construct is `name`."""
        return self.one(name, *_TABLES).physical_id

    def bucket(self, name: str) -> str:
        """The physical name of the bucket whose construct is `name`."""
        return self.one(name, _BUCKET).physical_id

    def bucket_or_none(self, name: str) -> str | None:
        """The same, None in an environment without one; raises Failure for more than one."""
        return self.bucket(name) if self._called(name, (_BUCKET,)) else None

    def queue(self, name: str) -> str:
        """The URL of the queue whose construct is `name`."""
        return self.one(name, _QUEUE).physical_id

    def functions(self) -> tuple[Function, ...]:
        """The functions that PythonFunction made, sorted by name."""
        found = []
        for resource in self.every(_FUNCTION):
            source = source_of(str(resource.properties.get("Handler", "")))
            if source is not None:
                # In `Reminders/Function/Function` the name ends before the first role.
                name = resource.path.partition("/Function")[0]
                log_group = self._log_group(resource)
                found.append(Function(name, source, resource.physical_id, log_group, resource.path, resource.stack))
        return _told_apart(found)

    def function(self, name: str) -> Function:
        """The function with this construct name or folder; raises Failure with the names there are.

        Raises it too for a name that several have, with theirs.
        """
        functions = self.functions()
        found = [each for each in functions if name in {each.name, each.source, each.function_name}]
        found = found or [each for each in functions if name in {each.folder, _without_stack(each)}]
        known = (f"{each.name} ({folder_of(each.source)})" for each in found or functions)
        return self._only(found, "function", name, known)

    def consumers(self) -> tuple[Consumer, ...]:
        """The consumers, sorted by name."""
        by_path = {(resource.stack, resource.path): resource for resource in self.resources}
        functions = self.functions()
        found = []
        for queue in self.every(_QUEUE):
            name, _, role = queue.path.rpartition("/")
            dead = by_path.get((queue.stack, f"{name}/DeadLetterQueue"))
            function = next(
                (each for each in functions if each.stack == queue.stack and each.path.startswith(f"{name}/Function")),
                None,
            )
            if role != "Queue" or dead is None or function is None:
                continue
            rule_dead = by_path.get((queue.stack, f"{name}/RuleDeadLetterQueue"))
            marks = by_path.get((queue.stack, f"{name}/Marks"))
            found.append(
                Consumer(
                    name=name,
                    source=function.source,
                    event_types=self._event_types(queue.stack, name),
                    queue_url=queue.physical_id,
                    dead_letter_queue_url=dead.physical_id,
                    rule_dead_letter_queue_url=rule_dead.physical_id if rule_dead else None,
                    function_name=function.function_name,
                    log_group=function.log_group,
                    marks_table=marks.physical_id if marks else None,
                    stack=queue.stack,
                )
            )
        return _told_apart(found)

    def consumer(self, name: str) -> Consumer:
        """The consumer with this construct name or folder; raises Failure with the names there are.

        Raises it too for a name that several have, with theirs.
        """
        consumers = self.consumers()
        found = [each for each in consumers if name == each.name]
        found = found or [each for each in consumers if name in {each.folder, _without_stack(each)}]
        return self._only(found, "consumer", name, (each.name for each in found or consumers))

    @cached_property
    def job_service(self) -> JobService:
        """The job service; raises Failure when there is none."""
        service = self.job_service_or_none()
        if service is None:
            raise Failure(f"environment {self.environment} has no job service (none of its stacks has a JobService)")
        return service

    def job_service_or_none(self) -> JobService | None:
        """The job service, None in an environment without one; raises Failure for more than one."""
        functions = self._own(JOBS_API)
        if not functions:
            return None
        if len(functions) > 1:
            stacks = " and ".join(each.stack for each in functions)
            raise Failure(
                f"environment {self.environment} has {len(functions)} job services, in {stacks}, and should have one: "
                "jobs of all stacks are those of one Platform"
            )
        [function] = functions
        return JobService(
            endpoint=self._endpoint(self._http_api(function)),
            table=self._named(function, "OFFLOAD_JOBS_TABLE"),
            bucket=self._named(function, "OFFLOAD_JOBS_BUCKET"),
        )

    @cached_property
    def subscription_services(self) -> tuple[SubscriptionService, ...]:
        """The senders of webhooks, sorted by their stacks' names; none in an environment that sends none."""
        recoveries = {each.stack: _variables(each).get("OFFLOAD_JOB") for each in self._own(DELIVERY_BATCH)}
        return tuple(
            SubscriptionService(
                endpoint=self._endpoint(self._http_api(function)),
                table=self._named(function, "OFFLOAD_SUBSCRIPTIONS_TABLE"),
                sealing_secret=self._named(function, "OFFLOAD_SEALING_SECRET"),
                stack=function.stack,
                recovery=recoveries.get(function.stack),
            )
            for function in self._own(SUBSCRIPTIONS_API)
        )

    @property
    def subscription_service(self) -> SubscriptionService:
        """The only sender of webhooks; raises Failure when there is none, or more than one."""
        return self.sender_of()

    def sender_of(self, stack: str | None = None) -> SubscriptionService:
        """The sender of a stack, or the only one; raises Failure, with the stacks that have one."""
        return self.chosen(self.senders(), stack, "sends webhooks from")

    def senders(self) -> tuple[SubscriptionService, ...]:
        """The senders of webhooks; raises Failure when there is none."""
        if not self.subscription_services:
            raise Failure(f"environment {self.environment} sends no webhooks (none of its stacks has a WebhookSender)")
        return self.subscription_services

    @cached_property
    def webhook_entries(self) -> tuple[WebhookEntry, ...]:
        """The ingresses of webhooks, sorted by their stacks' names; none in an environment that receives none."""
        return tuple(
            WebhookEntry(
                endpoint=self._endpoint(self._http_api(function)),
                table=self._named(function, "OFFLOAD_DELIVERIES_TABLE"),
                secret=self._named(function, SECRET_VARIABLE),
                providers=tuple(sorted(filter(None, str(_variables(function).get(PROVIDERS_VARIABLE, "")).split(",")))),
                stack=function.stack,
            )
            for function in self._own(WEBHOOK_RECEIVER)
        )

    @property
    def webhook_entry(self) -> WebhookEntry:
        """The only ingress of webhooks; raises Failure when there is none, or more than one."""
        return self.chosen(self.ingresses(), None, "receives webhooks in")

    def ingresses(self, stack: str | None = None) -> tuple[WebhookEntry, ...]:
        """The ingresses of webhooks, or that of a stack; raises Failure when there is none."""
        if not self.webhook_entries:
            raise Failure(
                f"environment {self.environment} receives no webhooks (none of its stacks has a WebhookReceiver)"
            )
        if stack is None:
            return self.webhook_entries
        return (self.chosen(self.webhook_entries, stack, "receives webhooks in"),)

    def chosen(self, among: Sequence[InStackT], stack: str | None, does: str) -> InStackT:
        """The one of a stack, or where none is named the only one there is.

        A stack is named as CloudFormation has it, or without `offload-ENVIRONMENT-`. `does` is what the environment
        does in the stacks, such as "receives webhooks in". Raises Failure with the names of the stacks.
        """
        prefix = f"offload-{self.environment}-"
        found = [each for each in among if stack in {None, each.stack, each.stack.removeprefix(prefix)}]
        if len(found) == 1:
            return found[0]
        stacks = ", ".join(each.stack for each in among)
        if found:
            raise Failure(
                f"environment {self.environment} {does} {len(found)} stacks: name one by --stack NAME, of {stacks}"
            )
        raise Failure(f"--stack {stack}: environment {self.environment} {does} other stacks: {stacks}")

    # -- reading

    def _only(self, found: Sequence[_NamedT], kind: str, name: str, known: Iterable[str]) -> _NamedT:
        """The one that was found; raises Failure, with what is known, where none or several were."""
        if len(found) == 1:
            return found[0]
        listed = ", ".join(known) or "none"
        if found:
            raise Failure(
                f"environment {self.environment} has {len(found)} {kind}s '{name}', type the name of one: {listed}"
            )
        raise Failure(f"environment {self.environment} has no {kind} '{name}': {listed}")

    def _called(self, name: str, types: Sequence[str]) -> list[Resource]:
        """The resources of the types whose construct is `name`, else those inside of one that is."""
        among = self.every(*types)
        exact = [each for each in among if name in {each.path, f"{each.stack}/{each.path}"}]
        return exact or [each for each in among if f"/{name}/" in f"/{each.stack}/{each.path}/"]

    def _own(self, source: str) -> list[Resource]:
        """The functions with this source, as resources, sorted by their stacks' names."""
        places = {(each.stack, each.path) for each in self.functions() if each.source == source}
        return sorted(
            (each for each in self.every(_FUNCTION) if (each.stack, each.path) in places), key=lambda each: each.stack
        )

    def _http_api(self, function: Resource) -> Resource:
        """The HTTP API that the function's construct has."""
        construct = function.path.partition("/")[0]
        apis = [each for each in self.every(_HTTP_API) if (each.stack, each.name) == (function.stack, construct)]
        if len(apis) != 1:
            raise Failure(f"environment {self.environment}: {construct} has {len(apis)} HTTP APIs, and should have one")
        return apis[0]

    def _endpoint(self, http_api: Resource) -> str:
        """The URL of an HTTP API's default stage."""
        if self.aws.instance is not None:
            # By its host name, which is the output, the embedded AWS is found with a working `*.localhost` only.
            return f"{self.aws.instance.endpoint}/_aws/execute-api/{http_api.physical_id}"
        outputs = next(stack.outputs for stack in self.stacks if stack.name == http_api.stack)
        for value in outputs:
            if value.startswith(f"https://{http_api.physical_id}."):
                return value.rstrip("/")
        raise Failure(f"{http_api.stack} has no output with the URL of {http_api.path}: deploy it again")

    def _named(self, function: Resource, variable: str) -> str:
        """The physical name of the resource that a function's variable refers to."""
        value = _variables(function).get(variable)
        logical_id = value.get("Ref") if isinstance(value, Mapping) else None
        for resource in self.resources:
            if (resource.stack, resource.logical_id) == (function.stack, logical_id):
                return resource.physical_id
        raise Failure(f"{function.path} in {function.stack} has no {variable} that names a resource: deploy it again")

    def _template(self, stack: str) -> Mapping[str, Any]:
        body: Any = self.aws.cloudformation.get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]
        return cast("Mapping[str, Any]", json.loads(body) if isinstance(body, str) else body)

    def _read(self) -> Iterator[Resource]:
        for stack in self.stacks:
            physical = {
                summary["LogicalResourceId"]: summary.get("PhysicalResourceId", "")
                for page in self.aws.cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack.name)
                for summary in page["StackResourceSummaries"]
                if summary["ResourceStatus"] != "DELETE_COMPLETE"
            }
            for logical_id, resource in stack.template.get("Resources", {}).items():
                path = resource.get("Metadata", {}).get("aws:cdk:path")
                if path is None or logical_id not in physical:
                    continue
                yield Resource(
                    stack=stack.name,
                    path=path.partition("/")[2].removesuffix("/Resource"),
                    logical_id=logical_id,
                    type=resource["Type"],
                    physical_id=physical[logical_id],
                    properties=resource.get("Properties", {}),
                )

    def _log_group(self, function: Resource) -> str:
        group = function.properties.get("LoggingConfig", {}).get("LogGroup")
        if isinstance(group, str):
            return group
        if isinstance(group, Mapping) and "Ref" in group:
            for resource in self.resources:
                if (resource.stack, resource.logical_id) == (function.stack, group["Ref"]):
                    return resource.physical_id
        return f"/aws/lambda/{function.physical_id}"

    def _event_types(self, stack: str, consumer: str) -> tuple[str, ...]:
        patterns = (
            resource.properties.get("EventPattern", {})
            for resource in self.every(_RULE)
            if resource.stack == stack and resource.path.startswith(f"{consumer}/")
        )
        types = (name for pattern in patterns for name in pattern.get("detail-type", ()) if isinstance(name, str))
        return tuple(sorted(set(types)))


def _folder(source: str) -> str:
    """The name of the folder that a function's code is in."""
    return source.rpartition("/")[2]


def _variables(function: Resource) -> Mapping[str, Any]:
    """The environment variables of a function, as its template has them."""
    found: Mapping[str, Any] = function.properties.get("Environment", {}).get("Variables", {})
    return found


def _told_apart(found: Iterable[_NamedT]) -> tuple[_NamedT, ...]:
    """Sorted by name, which begins with the stack's where several stacks have it."""
    each_once = list(found)
    times = Counter(each.name for each in each_once)
    told = [each if times[each.name] == 1 else replace(each, name=f"{each.stack}/{each.name}") for each in each_once]
    return tuple(sorted(told, key=lambda each: each.name))


def _without_stack(each: Function | Consumer) -> str:
    return each.name.removeprefix(f"{each.stack}/")
