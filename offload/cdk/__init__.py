"""What stacks are made of: the constructs and patterns, the typed environment, and what app.py runs.

What is named here is the face of the package: a team imports it from `offload.cdk`. It is loaded when it is used, so
that naming one construct does not import all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from offload.face import lazily

if TYPE_CHECKING:
    from offload.cdk.access import Access
    from offload.cdk.app import composition, run
    from offload.cdk.constructs.acknowledge import acknowledge, acknowledge_objects, allow_to_miss
    from offload.cdk.constructs.each_minute import call_each_minute
    from offload.cdk.constructs.event_bus import EventBus
    from offload.cdk.constructs.job_service import JobService
    from offload.cdk.constructs.log_alarm import alarm_on_log, metric_of_log
    from offload.cdk.constructs.operators import Operators
    from offload.cdk.constructs.private_bucket import PrivateBucket
    from offload.cdk.constructs.python_function import PythonFunction
    from offload.cdk.constructs.table import Table
    from offload.cdk.constructs.work_queue import DeadLetterQueue, WorkQueue
    from offload.cdk.environment import Environment, UnusableEnvironment
    from offload.cdk.environment_stack import EnvironmentStack
    from offload.cdk.guardrails import guard
    from offload.cdk.patterns.background_job import BackgroundJob
    from offload.cdk.patterns.event_consumer import EventConsumer
    from offload.cdk.patterns.integration import Integration
    from offload.cdk.patterns.monolith_access import MonolithAccess
    from offload.cdk.patterns.webhook_receiver import WebhookReceiver
    from offload.cdk.patterns.webhook_sender import WebhookSender
    from offload.cdk.platform import Platform
    from offload.cdk.refusal import Unusable

__all__ = [
    "Access",
    "BackgroundJob",
    "DeadLetterQueue",
    "Environment",
    "EnvironmentStack",
    "EventBus",
    "EventConsumer",
    "Integration",
    "JobService",
    "MonolithAccess",
    "Operators",
    "Platform",
    "PrivateBucket",
    "PythonFunction",
    "Table",
    "Unusable",
    "UnusableEnvironment",
    "WebhookReceiver",
    "WebhookSender",
    "WorkQueue",
    "acknowledge",
    "acknowledge_objects",
    "alarm_on_log",
    "allow_to_miss",
    "call_each_minute",
    "composition",
    "guard",
    "metric_of_log",
    "run",
]

_WHERE: Final = {
    "Access": "access",
    "BackgroundJob": "patterns.background_job",
    "DeadLetterQueue": "constructs.work_queue",
    "Environment": "environment",
    "EnvironmentStack": "environment_stack",
    "EventBus": "constructs.event_bus",
    "EventConsumer": "patterns.event_consumer",
    "Integration": "patterns.integration",
    "JobService": "constructs.job_service",
    "MonolithAccess": "patterns.monolith_access",
    "Operators": "constructs.operators",
    "Platform": "platform",
    "PrivateBucket": "constructs.private_bucket",
    "PythonFunction": "constructs.python_function",
    "Table": "constructs.table",
    "Unusable": "refusal",
    "UnusableEnvironment": "environment",
    "WebhookReceiver": "patterns.webhook_receiver",
    "WebhookSender": "patterns.webhook_sender",
    "WorkQueue": "constructs.work_queue",
    "acknowledge": "constructs.acknowledge",
    "acknowledge_objects": "constructs.acknowledge",
    "alarm_on_log": "constructs.log_alarm",
    "allow_to_miss": "constructs.acknowledge",
    "call_each_minute": "constructs.each_minute",
    "composition": "app",
    "guard": "guardrails",
    "metric_of_log": "constructs.log_alarm",
    "run": "app",
}

__getattr__ = lazily(__name__, _WHERE)
