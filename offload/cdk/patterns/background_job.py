"""A job type with the function that runs it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from aws_cdk import CfnResource, Duration, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_ssm as ssm
from constructs import Construct
from cronsim import CronSim, CronSimError

from offload.cdk.access import Access
from offload.cdk.constructs.acknowledge import acknowledge, allow_to_miss, permit_unused
from offload.cdk.constructs.job_service import JobService
from offload.cdk.constructs.python_function import PythonFunction, root_of
from offload.cdk.constructs.work_queue import DeadLetterQueue, WorkQueue
from offload.cdk.environment import Environment
from offload.cdk.refusal import Unusable
from offload.contracts.functions import own
from offload.contracts.jobs.job_type import JobType, Priority, Schedule, rate_of

# Lambda: 15 minutes, 128 MB to 10,240 MB (gettingstarted-limits.html, read 2026-11-24).
SHORTEST_RUN, LONGEST_RUN = timedelta(seconds=1), timedelta(minutes=15)
LEAST_MEMORY_MB, MOST_MEMORY_MB = 128, 10_240
# Lambda: a durable execution takes 366 days at the most (DurableConfig, ExecutionTimeout, read 2026-11-24).
LONGEST_DURABLE_RUN = timedelta(days=366)
_CONCURRENCY = 5
_CRON_FIELDS = 5
_RELEASED_STEPS: Final = "schemas/jobs/steps.json"
"""The steps of every released version of every durable type; `make schemas` adds to it and changes nothing in it."""
# How often a message is received before it is a dead letter. Retries of the job are the service's, not the queue's.
_RECEIVES = 5


# It writes the attempt's start, and asks Lambda for an execution.
_STARTER_TIMEOUT = Duration.seconds(30)


class UnusableJobType(Unusable):
    """A job type that cannot run: one line with the construct, the field and the fix."""


class BackgroundJob(Construct):
    """A queue a lane → function, with the parameter by which the job service finds them.

    Where the environment says so (`[queues] lanes`), one queue is for all lanes.

    `source` is the function's folder in lambdas/; `job` its type; `grants` what it may touch besides its own state;
    `variables` are its own settings; `starts` the jobs whose types it fans out to.

    A durable type's queues call a function that begins durable executions of `version`.

    Raises UnusableJobType.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        source: str,
        job: JobType[Any, Any],
        service: JobService,
        grants: Sequence[Access] = (),
        variables: Mapping[str, str] | None = None,
        starts: Sequence[BackgroundJob] = (),
    ) -> None:
        super().__init__(scope, construct_id)
        if refusal := _refusal(job, service) or _other_starts(job, starts) or changed_steps(job, root_of(self)):
            raise UnusableJobType(f"{self.node.path}: job type '{job.name}': {refusal}")
        service.places[job.name] = self.node.path
        self.job = job
        self.starts = tuple(starts)
        self._place_name = f"{service.path}/{job.name}"
        # Of a durable job, the time of one call; the job goes on in the next.
        timeout = _seconds(min(job.timeout, LONGEST_RUN))
        started = _STARTER_TIMEOUT if job.durable else timeout
        self.dead_letter_queue = DeadLetterQueue(self, "DeadLetterQueue")
        separate = Environment.of(self).queues.lanes == "each"
        self.queues = {
            lane: WorkQueue(
                self, f"{lane.title()}Queue", timeout=started, attempts=_RECEIVES, dead_letters=self.dead_letter_queue
            )
            for lane in (job.lanes if separate else (Priority.NORMAL,))
        }
        takes = {"OFFLOAD_JOB": job.name, "OFFLOAD_DEAD_LETTER_QUEUE_URL": self.dead_letter_queue.queue_url}
        self.function = PythonFunction(
            self,
            "Function",
            source=source,
            timeout=timeout,
            memory_mb=job.memory_mb,
            durable=lambda_.DurableConfig(execution_timeout=_seconds(job.timeout)) if job.durable else None,
            environment={
                **service.variables,
                **({} if job.durable else takes),
                **{name: value for access in grants for name, value in access.variables.items()},
                **(variables or {}),
            },
        )
        self.version = self._publish(service) if job.durable else None
        self.starter = self._starter(service, self.version, takes) if self.version else None
        self.place = ssm.StringParameter(
            self,
            "Place",
            parameter_name=self._place_name,
            string_value=Stack.of(self).to_json_string(
                {"queues": {lane.value: self._queue_of(lane).queue_url for lane in job.lanes}}
            ),
            description=f"Where jobs of the type {job.name} run",
        )
        self._grant(service, grants)
        for queue in self.queues.values():
            queue.work_off(self.starter or self.function, batch_size=1, concurrency=job.concurrency or _CONCURRENCY)
        self.dead_letter_alarm = self.dead_letter_queue.alarm(
            self,
            "DeadLetterAlarm",
            says=f"Messages of {construct_id} could not be taken: offload jobs list --type {job.name}",
        )

    def _queue_of(self, lane: Priority) -> WorkQueue:
        """A lane's queue: its own, or where the environment has one for all of them, that."""
        return self.queues.get(lane) or self.queues[Priority.NORMAL]

    def nudges(self) -> list[iam.PolicyStatement]:
        """What it takes to find this job's queues and to send to them."""
        # Written out: the parameter names queues, and roles that may read it come before it.
        place = Stack.of(self).format_arn(
            service="ssm", resource="parameter", resource_name=self._place_name.removeprefix("/")
        )
        return [
            iam.PolicyStatement(
                actions=["sqs:SendMessage"], resources=[queue.queue_arn for queue in self.queues.values()]
            ),
            iam.PolicyStatement(actions=["ssm:GetParameter"], resources=[place]),
        ]

    @property
    def _descendants(self) -> Iterator[BackgroundJob]:
        for child in self.starts:
            yield child
            yield from child._descendants

    def _grant(self, service: JobService, grants: Sequence[Access]) -> None:
        role = self.function.role
        # A durable one starts no other, and stands in no line: its starter does.
        service.allow_state(role, new=not self.job.durable)
        # Results of children, and large ones of its own.
        service.allow_files(role, "results/*", "s3:GetObject", "s3:PutObject")
        allow_to_miss(role, service.bucket)
        if not self.job.durable:
            self.dead_letter_queue.grant(role, "sqs:SendMessage")
        for access in grants:
            access.grant(role)
        # A parent that is cancelled cancels the whole tree; whoever ends a job wakes those that wait for its slot.
        for job in (self, *self._descendants):
            for statement in job.nudges():
                role.add_to_principal_policy(statement)
        # These stand here, not with their roles: the stacks of those roles must not need this one.
        self._let("ServiceNudges", service.nudgers.values(), self.nudges())
        if self.starts:
            # The last child that ends wakes its parent.
            self._let("ChildrenNudges", (child.function.role for child in self.starts), self.nudges())

    def _let(
        self, construct_id: str, roles: Iterable[iam.Role], statements: Sequence[iam.PolicyStatement]
    ) -> iam.Policy:
        return iam.Policy(self, construct_id, roles=list(roles), statements=list(statements))

    def _publish(self, service: JobService) -> lambda_.Version:
        """The version that new runs start on; those before it stay, with the runs that they began."""
        function = self.function.function
        versions = f"{function.function_arn}:*"
        for construct_id, roles, actions in (
            # Not on the role: the function waits for its role's own policies, and these name the function.
            ("OwnCheckpoints", [self.function.role], ("CheckpointDurableExecution", "GetDurableExecutionState")),
            ("Executions", [service.sweeper.role], ("GetDurableExecution", "StopDurableExecution")),
            ("Answers", [service.api_function.role], ("SendDurableExecutionCallbackSuccess",)),
        ):
            statement = iam.PolicyStatement(actions=[f"lambda:{action}" for action in actions], resources=[versions])
            policy = self._let(construct_id, roles, [statement])
            if construct_id == "OwnCheckpoints":
                permit_unused(
                    policy,
                    ["lambda:GetDurableExecutionState"],
                    versions,
                    # docs.aws.amazon.com/lambda/latest/dg/durable-security.html, read 2026-11-29
                    "The SDK asks for the state of a run that is too long for its invocation's event.",
                )
            resource = Stack.of(self).get_logical_id(cast("CfnResource", function.node.default_child))
            acknowledge(
                policy,
                f"AwsSolutions::AwsSolutions-IAM5[Resource::<{resource}.Arn>:*]",
                "Runs of every version that was ever deployed go on.",
            )
        return function.current_version

    def _starter(self, service: JobService, version: lambda_.Version, takes: Mapping[str, str]) -> PythonFunction:
        """The function on the queues of a durable type: it begins an execution, and does not wait for it."""
        starter = PythonFunction(
            self,
            "Starter",
            source=own("job_starter"),
            timeout=_STARTER_TIMEOUT,
            environment={
                **service.variables,
                **service.bus.catalogue_variables,
                **takes,
                "OFFLOAD_FUNCTION": version.function_arn,
            },
        )
        service.allow_state(starter.role)
        self.dead_letter_queue.grant(starter.role, "sqs:SendMessage")
        for statement in self.nudges():
            starter.role.add_to_principal_policy(statement)
        iam.Grant.add_to_principal(
            grantee=starter.role, actions=["lambda:InvokeFunction"], resource_arns=[version.function_arn]
        )
        return starter


def _refusal(job: JobType[Any, Any], service: JobService) -> str | None:
    """Why a type cannot run as it is, and the fix; None when it can."""
    minutes = job.timeout / timedelta(minutes=1)
    if job.timeout > LONGEST_RUN and not job.durable:
        return f"timeout of {minutes:g} minutes: Lambda runs for 15 at the most: make it durable"
    if job.timeout > LONGEST_DURABLE_RUN:
        return f"timeout of {minutes:g} minutes: a durable function runs for 366 days at the most: start another job"
    if job.timeout < SHORTEST_RUN:
        return f"timeout of {job.timeout.total_seconds():g} s: Lambda runs for 1 s at the least"
    if not LEAST_MEMORY_MB <= job.memory_mb <= MOST_MEMORY_MB:
        return f"memory_mb of {job.memory_mb}: Lambda has {LEAST_MEMORY_MB} to {MOST_MEMORY_MB}"
    if service.types.get(job.name) is not job:
        catalogue = service.bus.catalogue.module
        return f"it is not in the catalogue, so nobody could submit it: add it to the jobs of {catalogue}"
    if taken := service.places.get(job.name):
        return f"{taken} runs it already, and an environment has one function for a type: give this one another type"
    return _schedule_refusal(job.schedule) if job.schedule else None


def _other_starts(job: JobType[Any, Any], starts: Sequence[BackgroundJob]) -> str | None:
    """Which job the type starts by its contract and not by its construct, or the other way round, and the fix."""
    declared, given = {each.name for each in job.starts}, {each.job.name for each in starts}
    if missing := sorted(declared - given):
        return f"it starts '{missing[0]}': give its BackgroundJob to `starts` of this one"
    if more := sorted(given - declared):
        return f"`starts` has '{more[0]}', which the type does not start: add it to `starts` of the type"
    return None


def changed_steps(job: JobType[Any, Any], root: Path) -> str | None:
    """Which step is not as in the last release of this version of the type, and the way out; None when all are.

    Lambda replays a run by the order of its steps: with others, runs in flight would go wrong or fail
    (durable-best-practices.html, read 2026-11-24). They keep their version's code; who retries one does not.
    """
    if not job.durable:
        return None
    file = root / _RELEASED_STEPS
    record = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    released = record.get(job.name, {}).get(str(job.version))
    if released is None:
        return f"steps: version {job.version} is not in {_RELEASED_STEPS}: run `make schemas`"
    for number, (before, now) in enumerate(zip_longest(released, job.steps), start=1):
        if before != now:
            change = (
                f"'{before}' is now '{now}'"
                if before and now
                else f"'{before or now}' is " + ("gone" if before else "new")
            )
            return (
                f"steps: step {number}, {change}, and version {job.version} is released: runs in flight would fail; "
                f"give the type version={job.version + 1} and run `make schemas`"
            )
    return None


def _schedule_refusal(schedule: Schedule[Any]) -> str | None:
    try:
        zone = ZoneInfo(schedule.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        return f"schedule: there is no time zone '{schedule.timezone}': use an IANA name, such as Europe/London"
    if rate_of(schedule.cron):
        return None
    if len(schedule.cron.split()) != _CRON_FIELDS:
        return (
            f"schedule: cron '{schedule.cron}': it has five fields: minute, hour, day of month, month, day of week; "
            "or it is a rate: rate(90 minutes)"
        )
    try:
        next(CronSim(schedule.cron, datetime.now(zone)))
    except CronSimError as error:
        return (
            f"schedule: cron '{schedule.cron}': {error}: the fields are minute, hour, day of month, month, day of week"
        )
    except StopIteration:
        return f"schedule: cron '{schedule.cron}': there is no such day: it would never fire"
    return None


def _seconds(time: timedelta) -> Duration:
    """Whole seconds, as Lambda takes them: rounded up."""
    return Duration.seconds(math.ceil(time.total_seconds()))
