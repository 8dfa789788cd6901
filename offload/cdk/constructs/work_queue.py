"""A queue that a function works off, with its dead-letter queue."""

from __future__ import annotations

import jsii
from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_event_sources as sources
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from offload.cdk.constructs.acknowledge import acknowledge
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.python_function import PythonFunction
from offload.cdk.environment import Environment

# SQS: 14 days at the most (quotas-messages.html, read 2026-11-23); dead letters stay as long as can be.
DEAD_LETTER_RETENTION = Duration.days(14)
# Lambda's advice: six times the function's timeout (with-sqs.html, read 2026-11-23).
VISIBILITY_PER_TIMEOUT = 6
# Lambda: an SQS event source's maximum concurrency is 2 to 1,000 (services-sqs-scaling.html, read 2026-11-24).
LEAST_CONCURRENCY, MOST_CONCURRENCY = 2, 1_000
# What Lambda does with a function's role to poll its queue (with-sqs.html and services-sqs-errorhandling.html, read
# 2026-11-29).
POLLING = (
    "sqs:ReceiveMessage",
    "sqs:DeleteMessage",
    "sqs:GetQueueAttributes",
    "sqs:ChangeMessageVisibility",
)


class DeadLetterQueue(sqs.Queue):
    """Where messages stay that were given up on: 14 days, TLS only, encrypted."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(
            scope,
            construct_id,
            retention_period=DEAD_LETTER_RETENTION,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
        )
        encrypt(self)

    def alarm(self, scope: Construct, construct_id: str, *, says: str) -> cloudwatch.Alarm:
        """Makes an alarm that goes off with the first dead letter and stays until none is left.

        `says` is for who is woken.
        """
        return self.metric_approximate_number_of_messages_visible(statistic="Maximum").create_alarm(
            scope,
            construct_id,
            alarm_description=says,
            threshold=1,
            evaluation_periods=1,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )


class WorkQueue(sqs.Queue):
    """A queue for a function with this timeout: the visibility timeout follows from it.

    `attempts` is how often a message is received before SQS moves it to `dead_letters` by itself.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        timeout: Duration,
        attempts: int,
        dead_letters: DeadLetterQueue,
        window: Duration | None = None,
    ) -> None:
        seconds = VISIBILITY_PER_TIMEOUT * timeout.to_seconds() + (window.to_seconds() if window else 0)
        super().__init__(
            scope,
            construct_id,
            visibility_timeout=Duration.seconds(seconds),
            # As long as SQS keeps anything, less what a dead letter may have spent here (its age counts on).
            retention_period=Duration.days(4),
            max_message_size_bytes=1_048_576,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            dead_letter_queue=sqs.DeadLetterQueue(queue=dead_letters, max_receive_count=attempts),
        )
        encrypt(self)

    def work_off(self, function: PythonFunction, *, batch_size: int, concurrency: int) -> None:
        """Lets a function take the messages in batches, of which it may report single messages as failed.

        At most `concurrency` batches run at once (2 to 1,000), unless the environment leaves that to Lambda.
        """
        bounded = Environment.of(self).queues.concurrency == "bounded"
        before = set(function.function.node.children)
        function.function.add_event_source(
            sources.SqsEventSource(
                self,
                batch_size=batch_size,
                report_batch_item_failures=True,
                max_concurrency=min(MOST_CONCURRENCY, max(LEAST_CONCURRENCY, concurrency)) if bounded else None,
            )
        )
        if bounded:
            return
        for mapping in function.function.node.children:
            if isinstance(mapping, lambda_.EventSourceMapping) and mapping not in before:
                acknowledge(
                    mapping,
                    "offload::unbounded-concurrency",
                    "[queues] concurrency is any: an idle queue has two pollers in place of five, and a full one may "
                    "take all the concurrency that the account has.",
                )

    @jsii.member(jsii_name="grantConsumeMessages")
    def grant_consume_messages(self, grantee: iam.IGrantable) -> iam.Grant:
        """Allows what Lambda does with a function's role to poll this queue; the CDK would add GetQueueUrl."""
        return self.grant(grantee, *POLLING)
