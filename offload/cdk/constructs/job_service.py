"""The service of background jobs: where their state is, the API that takes them, and who keeps their time."""

from __future__ import annotations

import math
from datetime import timedelta

from aws_cdk import CfnOutput, Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from offload.cdk.access import Access
from offload.cdk.constructs.acknowledge import acknowledge_objects, permit_unused
from offload.cdk.constructs.each_minute import call_each_minute
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.http_api import signed_api
from offload.cdk.constructs.log_alarm import alarm_on_log
from offload.cdk.constructs.private_bucket import PrivateBucket
from offload.cdk.constructs.python_function import PythonFunction
from offload.cdk.constructs.table import Table
from offload.cdk.environment import Environment
from offload.contracts.functions import own
from offload.contracts.jobs.api import ROUTES
from offload.contracts.jobs.events import JobFinished
from offload.contracts.jobs.job_type import Retention

# What lies between a file's writing and its job's end, in all but the rarest cases.
_LONGEST_WORK = timedelta(days=7)
_STRING, _NUMBER = dynamodb.AttributeType.STRING, dynamodb.AttributeType.NUMBER


class JobService(Construct):
    """One table of jobs, the bucket of their files, an HTTP API signed with IAM, and the sweeper.

    It names no job type: each BackgroundJob leaves in a parameter below `path` where its queues are, and lets the
    service's functions send to them.
    """

    def __init__(self, scope: Construct, construct_id: str, *, bus: EventBus) -> None:
        super().__init__(scope, construct_id)
        self.bus = bus
        self.types = bus.catalogue.job_types
        self.path = f"/offload/{Environment.of(self).name}/jobs"
        self.places: dict[str, str] = {}
        """The construct's path of each type's BackgroundJob, by the type's name: an environment has one of each."""
        self.table = self._table()
        self.bucket = self._bucket()
        self.variables = {
            "OFFLOAD_JOBS_TABLE": self.table.table_name,
            "OFFLOAD_JOBS_BUCKET": self.bucket.bucket_name,
            "OFFLOAD_JOBS_PATH": self.path,
            "OFFLOAD_BUS": bus.bus.event_bus_name,
        }
        self.api_function = PythonFunction(
            self,
            "Api",
            source=own("jobs_api"),
            # An HTTP API waits 30 s at the most.
            timeout=Duration.seconds(29),
            memory_mb=512,
            environment=self.variables | bus.catalogue_variables,
        )
        self.sweeper = PythonFunction(
            self,
            "Timekeeper",
            source=own("job_sweeper"),
            timeout=Duration.seconds(50),
            environment=self.variables | bus.catalogue_variables,
        )
        self.nudgers: dict[str, iam.Role] = {}
        """Who may tell a function to look at a job, by a name; each BackgroundJob lets them."""
        for name, function in {"Api": self.api_function, "Timekeeper": self.sweeper}.items():
            self.allow_state(function.role)
            self.nudgers[name] = function.role
        self.table.allow_query(self.api_function.role, "types")
        self.table.allow_query(self.sweeper.role, "due")
        self.allow_files(self.api_function.role, "results/*", "s3:GetObject", "s3:PutObject")
        permit_unused(
            self.api_function.role,
            ["s3:PutObject"],
            self.bucket.arn_for_objects("results/*"),
            "A person may end a held job with a result that is too large for its item.",
        )
        # A presigned URL carries the permissions of the role that signed it.
        self.allow_files(self.api_function.role, "uploads/*", "s3:PutObject")
        self.http_api = signed_api(self, ROUTES, self.api_function, permission_a_route=True)
        call_each_minute(
            self,
            self.sweeper,
            "Timekeeper",
            stopped="No job has been looked at for five minutes: delayed jobs and retries do not start",
            failed="The sweeper could not look at every job: offload logs job_sweeper",
        )
        self.audit_alarm = self._audit_alarm()
        CfnOutput(self, "Url", value=self.http_api.api_endpoint, description="The job service's API")

    @property
    def submit(self) -> Access:
        """May submit jobs; the function's role must be among the `nudgers`."""
        return Access(self.allow_state, self.variables)

    @property
    def write_in_parts(self) -> Access:
        """May give up a result that it writes in parts: for jobs that write large files.

        Beginning, sending and completing parts takes PutObject, which every job has; giving up has an action of its own
        (AmazonS3/latest/userguide/mpuoverview.html, "Multipart upload API and permissions"). Without it, what a failed
        attempt has sent stays, and is billed, for a day.
        """
        return Access(lambda grantee: self.allow_files(grantee, "results/*", "s3:AbortMultipartUpload"))

    def allow_state(self, grantee: iam.IGrantable, *, new: bool = True) -> None:
        """May change jobs, and tell the bus that one has ended; `new` ones too, and places in lines for a slot."""
        self.table.allow_exactly(
            grantee, "GetItem", *(("PutItem",) if new else ()), "UpdateItem", "DeleteItem", "Query"
        )
        self.bus.publish(JobFinished).grant(grantee)

    @property
    def uploads(self) -> Access:
        """May read the files that were uploaded for jobs."""
        return Access(lambda grantee: self.allow_files(grantee, "uploads/*", "s3:GetObject"))

    def allow_files(self, grantee: iam.IGrantable, keys: str, *actions: str) -> None:
        """May act on the objects `keys` (`uploads/*`) of the jobs' bucket."""
        iam.Grant.add_to_principal(
            grantee=grantee, actions=list(actions), resource_arns=[self.bucket.arn_for_objects(keys)]
        )
        acknowledge_objects(grantee, self.bucket, keys, "A file's key has its job's id: known at run time.")

    def _table(self) -> Table:
        table = Table(self, "Jobs", time_to_live="expires")
        # Read whole each minute: without inputs and histories.
        table.add_global_secondary_index(
            index_name="due",
            partition_key=dynamodb.Attribute(name="due_shard", type=_STRING),
            sort_key=dynamodb.Attribute(name="due_at", type=_NUMBER),
            projection_type=dynamodb.ProjectionType.INCLUDE,
            non_key_attributes=["type", "state"],
        )
        table.add_global_secondary_index(
            index_name="types",
            partition_key=dynamodb.Attribute(name="type_shard", type=_STRING),
            sort_key=dynamodb.Attribute(name="listed", type=_STRING),
        )
        return table

    def _bucket(self) -> PrivateBucket:
        # A job's result is there as long as the job, and its upload, so that a retry still finds it.
        # The default counts where an app has no type yet: a shorter time would cost it files when it has one.
        retentions = (Retention(), *(each.retention for each in self.types.values()))
        kept = max(max(each.succeeded, each.failed, each.cancelled) for each in retentions)
        days = Duration.days(math.ceil((kept + _LONGEST_WORK) / timedelta(days=1)))
        return PrivateBucket(
            self,
            "Files",
            lifecycle_rules=[
                s3.LifecycleRule(prefix="uploads/", expiration=days),
                s3.LifecycleRule(prefix="results/", expiration=days),
            ],
        )

    def _audit_alarm(self) -> cloudwatch.Alarm:
        """Goes off when the sweeper's count of accepted jobs is not that of ended and open ones."""
        return alarm_on_log(
            self,
            "MissingJobs",
            log_group=self.sweeper.log_group,
            pattern=logs.FilterPattern.exists("$.missing_jobs"),
            metric="MissingJobs",
            value="$.missing_jobs",
            says="Accepted jobs are neither ended nor open: offload audit",
            threshold=1,
            within=Duration.minutes(5),
            statistic="Minimum",
            periods=2,
        )
