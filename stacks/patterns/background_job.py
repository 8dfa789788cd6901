"""A job type with the function that runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from aws_cdk import Duration, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_ssm as ssm
from constructs import Construct

from offload.contracts.jobs.job_type import JobType
from stacks.access import Access
from stacks.constructs.acknowledge import acknowledge_objects
from stacks.constructs.job_service import JobService
from stacks.constructs.python_function import PythonFunction
from stacks.constructs.work_queue import DeadLetterQueue, WorkQueue

# Lambda: 15 minutes, 128 MB to 10,240 MB (gettingstarted-limits.html, read 2026-11-24).
LONGEST_RUN = timedelta(minutes=15)
LEAST_MEMORY_MB, MOST_MEMORY_MB = 128, 10_240
# Lambda: an SQS event source's maximum concurrency is 2 to 1,000 (services-sqs-scaling.html, read 2026-11-24).
LEAST_CONCURRENCY, MOST_CONCURRENCY = 2, 1_000
_CONCURRENCY = 5
# How often a message is received before it is a dead letter. Retries of the job are the service's, not the queue's.
_RECEIVES = 5


class UnusableJobType(Exception):
    """What Lambda cannot hold: one line with the construct, the field and the mend."""


class BackgroundJob(Construct):
    """A queue a lane → function, with the parameter by which the job service finds them.

    `source` is the function's folder in lambdas/; `job` its type; `grants` what it may touch besides its own state;
    `starts` the jobs whose types it fans out to. Raises UnusableJobType.
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
        self._refuse_what_cannot_be(job)
        self.job = job
        timeout = Duration.seconds(int(job.timeout.total_seconds()))
        self.dead_letter_queue = DeadLetterQueue(self, "DeadLetterQueue")
        self.queues = {
            lane: WorkQueue(
                self, f"{lane.title()}Queue", timeout=timeout, attempts=_RECEIVES, dead_letters=self.dead_letter_queue
            )
            for lane in job.lanes
        }
        self.function = PythonFunction(
            self,
            "Function",
            source=source,
            timeout=timeout,
            memory_mb=job.memory_mb,
            environment={
                **service.variables,
                "OFFLOAD_JOB": job.name,
                "OFFLOAD_DEAD_LETTER_QUEUE_URL": self.dead_letter_queue.queue_url,
                **{name: value for access in grants for name, value in access.variables.items()},
                **(variables or {}),
            },
        )
        self.place = ssm.StringParameter(
            self,
            "Place",
            parameter_name=f"{service.path}/{job.name}",
            string_value=Stack.of(self).to_json_string(
                {"queues": {lane.value: queue.queue_url for lane, queue in self.queues.items()}, "function": None}
            ),
            description=f"Where jobs of the type {job.name} run",
        )
        self._grant(service, grants, starts)
        for queue in self.queues.values():
            self.function.function.add_event_source(
                sources.SqsEventSource(
                    queue,
                    batch_size=1,
                    report_batch_item_failures=True,
                    max_concurrency=min(MOST_CONCURRENCY, max(LEAST_CONCURRENCY, job.concurrency or _CONCURRENCY)),
                )
            )
        self.dead_letter_alarm = self.dead_letter_queue.metric_approximate_number_of_messages_visible(
            statistic="Maximum"
        ).create_alarm(
            self,
            "DeadLetterAlarm",
            alarm_description=f"Messages of {construct_id} could not be taken: offload jobs list --type {job.name}",
            threshold=1,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )

    def allow_nudges(self, role: iam.Role, construct_id: str) -> None:
        """Lets a role send to this job's queues and find them.

        The policy stands here, not with the role: the role's stack must not need this one.
        """
        iam.Policy(
            self,
            construct_id,
            roles=[role],
            statements=[
                iam.PolicyStatement(
                    actions=["sqs:SendMessage"], resources=[queue.queue_arn for queue in self.queues.values()]
                ),
                iam.PolicyStatement(actions=["ssm:GetParameter"], resources=[self.place.parameter_arn]),
            ],
        )

    def _grant(self, service: JobService, grants: Sequence[Access], starts: Sequence[BackgroundJob]) -> None:
        role = self.function.role
        service.allow_state(role)
        service.allow_files(role, "uploads/*", "s3:GetObject")
        # Results of children, and large ones of its own.
        iam.Grant.add_to_principal(
            grantee=role, actions=["s3:GetObject"], resource_arns=[service.bucket.arn_for_objects("results/*")]
        )
        acknowledge_objects(role, service.bucket, "results/*", "A file's key has its job's id: known at run time.")
        # Without ListBucket, S3 answers "access denied" for an object that does not exist (API_GetObject).
        iam.Grant.add_to_principal(grantee=role, actions=["s3:ListBucket"], resource_arns=[service.bucket.bucket_arn])
        self.dead_letter_queue.grant(role, "sqs:SendMessage")
        for access in grants:
            access.grant(role)
        for name, nudger in service.nudgers.items():
            self.allow_nudges(nudger, f"{name}Nudges")
        self.allow_nudges(role, "OwnNudges")
        for other in starts:
            other.allow_nudges(role, f"{self.node.id}Nudges")

    def _refuse_what_cannot_be(self, job: JobType[Any, Any]) -> None:
        where = f"{self.node.path}: job type '{job.name}'"
        if job.timeout > LONGEST_RUN:
            minutes = job.timeout.total_seconds() / 60
            raise UnusableJobType(
                f"{where}: timeout of {minutes:g} minutes: Lambda runs for 15 at the most: make it durable"
            )
        if not LEAST_MEMORY_MB <= job.memory_mb <= MOST_MEMORY_MB:
            raise UnusableJobType(
                f"{where}: memory_mb of {job.memory_mb}: Lambda has {LEAST_MEMORY_MB} to {MOST_MEMORY_MB}"
            )
