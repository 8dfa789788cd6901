"""What is deployed in one environment, found by the names that the stacks gave it.

CloudFormation's stacks are asked, and in their templates the path of every construct (`aws:cdk:path`). So nothing has
a physical name, and nothing of this has to be configured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

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
    """One deployed function: its construct's name, its source as PythonFunction takes it, its physical names."""

    name: str
    source: str
    function_name: str
    log_group: str
    path: str

    @property
    def folder(self) -> str:
        """The name of the folder that its code is in."""
        return _folder(self.source)


@dataclass(frozen=True)
class Consumer:
    """One deployed consumer. `event_types` are those that its rules pass on, sorted."""

    name: str
    source: str
    event_types: tuple[str, ...]
    queue_url: str
    dead_letter_queue_url: str
    rule_dead_letter_queue_url: str | None
    function_name: str
    log_group: str
    marks_table: str | None

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
    """The deployed sender of webhooks: its API's URL, its table of subscriptions and deliveries, its sealing key."""

    endpoint: str
    table: str
    sealing_secret: str


@dataclass(frozen=True)
class WebhookEntry:
    """The deployed ingress of webhooks: its API's URL, its table, the secret of all providers, and their names."""

    endpoint: str
    table: str
    secret: str
    providers: tuple[str, ...]

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

        Raises Failure when there is none, or more than one.
        """
        found = self._called(name, types)
        if len(found) == 1:
            return found[0]
        kinds = " or ".join(kind.rpartition("::")[2] for kind in types)
        known = ", ".join(resource.path for resource in (found or self.every(*types))) or "none"
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
                found.append(Function(name, source, resource.physical_id, self._log_group(resource), resource.path))
        return tuple(sorted(found, key=lambda function: function.name))

    def function(self, name: str) -> Function:
        """The function with this construct name or folder; raises Failure with the names there are."""
        functions = self.functions()
        for function in functions:
            if name in {function.name, function.source, function.function_name}:
                return function
        for function in functions:
            if name == function.folder:
                return function
        known = ", ".join(f"{function.name} ({folder_of(function.source)})" for function in functions) or "none"
        raise Failure(f"environment {self.environment} has no function '{name}': {known}")

    def consumers(self) -> tuple[Consumer, ...]:
        """The consumers, sorted by name."""
        by_path = {(resource.stack, resource.path): resource for resource in self.resources}
        functions = {function.path: function for function in self.functions()}
        found = []
        for queue in self.every(_QUEUE):
            name, _, role = queue.path.rpartition("/")
            dead = by_path.get((queue.stack, f"{name}/DeadLetterQueue"))
            function = next((functions[path] for path in functions if path.startswith(f"{name}/Function")), None)
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
                )
            )
        return tuple(sorted(found, key=lambda consumer: consumer.name))

    def consumer(self, name: str) -> Consumer:
        """The consumer with this construct name or folder; raises Failure with the names there are."""
        consumers = self.consumers()
        for consumer in consumers:
            if name in {consumer.name, consumer.folder}:
                return consumer
        known = ", ".join(consumer.name for consumer in consumers) or "none"
        raise Failure(f"environment {self.environment} has no consumer '{name}': {known}")

    @cached_property
    def job_service(self) -> JobService:
        """The job service; raises Failure when there is none."""
        service = self.job_service_or_none()
        if service is None:
            raise Failure(f"environment {self.environment} has no job service (none of its stacks has a JobService)")
        return service

    def job_service_or_none(self) -> JobService | None:
        """The job service, None in an environment without one."""
        function = self._own(JOBS_API)
        if function is None:
            return None
        return JobService(
            endpoint=self._endpoint(self._http_api(function)),
            table=self._named(function, "OFFLOAD_JOBS_TABLE"),
            bucket=self._named(function, "OFFLOAD_JOBS_BUCKET"),
        )

    @cached_property
    def subscription_service(self) -> SubscriptionService:
        """The sender of webhooks; raises Failure when there is none."""
        service = self.subscription_service_or_none()
        if service is None:
            raise Failure(f"environment {self.environment} sends no webhooks (none of its stacks has a WebhookSender)")
        return service

    def subscription_service_or_none(self) -> SubscriptionService | None:
        """The sender of webhooks, None in an environment without one."""
        function = self._own(SUBSCRIPTIONS_API)
        if function is None:
            return None
        return SubscriptionService(
            endpoint=self._endpoint(self._http_api(function)),
            table=self._named(function, "OFFLOAD_SUBSCRIPTIONS_TABLE"),
            sealing_secret=self._named(function, "OFFLOAD_SEALING_SECRET"),
        )

    @cached_property
    def webhook_entry(self) -> WebhookEntry:
        """The door for webhooks; raises Failure when there is none."""
        entry = self.webhook_entry_or_none()
        if entry is None:
            raise Failure(
                f"environment {self.environment} receives no webhooks (none of its stacks has a WebhookReceiver)"
            )
        return entry

    def webhook_entry_or_none(self) -> WebhookEntry | None:
        """The door for webhooks, None in an environment without one."""
        function = self._own(WEBHOOK_RECEIVER)
        if function is None:
            return None
        variables: Mapping[str, Any] = function.properties.get("Environment", {}).get("Variables", {})
        return WebhookEntry(
            endpoint=self._endpoint(self._http_api(function)),
            table=self._named(function, "OFFLOAD_DELIVERIES_TABLE"),
            secret=self._named(function, SECRET_VARIABLE),
            providers=tuple(sorted(filter(None, str(variables.get(PROVIDERS_VARIABLE, "")).split(",")))),
        )

    # -- reading

    def _called(self, name: str, types: Sequence[str]) -> list[Resource]:
        """The resources of the types whose construct is `name`, else those inside of one that is."""
        among = self.every(*types)
        exact = [resource for resource in among if resource.path == name]
        return exact or [resource for resource in among if f"/{name}/" in f"/{resource.path}/"]

    def _own(self, source: str) -> Resource | None:
        """The function with this source, as a resource."""
        path = next((each.path for each in self.functions() if each.source == source), None)
        return next((each for each in self.every(_FUNCTION) if each.path == path), None)

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
        value = function.properties.get("Environment", {}).get("Variables", {}).get(variable)
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
