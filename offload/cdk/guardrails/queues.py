"""Guardrails of queues, of what feeds them and of what they feed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from offload.cdk.guardrails.functions import called_function
from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import Resource, Templates, Value, listed, number, text

QUEUE = "AWS::SQS::Queue"
MAPPING = "AWS::Lambda::EventSourceMapping"

# What CloudFormation takes where a template says nothing (AWS::SQS::Queue, AWS::Lambda::Function and
# AWS::Lambda::EventSourceMapping in the CloudFormation reference, read 2026-11-23).
DEFAULT_VISIBILITY_SECONDS = 30
DEFAULT_RETENTION_SECONDS = 345_600
DEFAULT_FUNCTION_TIMEOUT_SECONDS = 3
DEFAULT_FUNCTION_MEMORY_MB = 128
DEFAULT_BATCH_SIZE = 10
# SQS has taken messages of 1 MiB since 2025-08-04; pages disagree on a queue's default, so the larger one counts.
DEFAULT_MESSAGE_BYTES = 1_048_576

# "Set the queue's visibility timeout to at least six times your function's timeout, plus the batch window":
# Lambda Developer Guide, "Using Lambda with Amazon SQS", read 2026-11-23.
VISIBILITY_FACTOR = 6

# Lambda Developer Guide, "Amazon SQS event source mapping parameters", read 2026-11-23.
MAX_BATCH_STANDARD = 10_000
MAX_BATCH_FIFO = 10
MAX_BATCH_WITHOUT_WINDOW = 10

# Lambda's synchronous request payload ("Lambda quotas", read 2026-11-23). Lambda cuts a batch there by itself, so it
# bounds what a batch can weigh and is no limit on BatchSize.
MAX_PAYLOAD_BYTES = 6_000_000
# Measured with Python 3.11: decoding a batch of 6 MB of JSON takes 5.8 times its size beside the interpreter (the
# payload, its records' bodies, the objects in them); the rest is room for what a handler makes of it.
MEMORY_PER_PAYLOAD_BYTE = 8
# The interpreter with boto3 and Powertools before the first record.
MEMORY_AT_REST_MB = 96

# Messages that a queue's own redrive policy moves are not counted by NumberOfMessagesSent: an alarm on that metric
# stays silent (SQS Developer Guide, "Available CloudWatch metrics for Amazon SQS", read 2026-11-23).
WATCHING_METRICS = frozenset({"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"})


def queue_mappings(templates: Templates) -> Iterator[tuple[Resource, Resource | None]]:
    """The event source mappings of queues, each with its queue where that is in the app."""
    for mapping in templates.of_type(MAPPING):
        source = mapping.properties.get("EventSourceArn")
        queue = templates.target(mapping, source)
        if queue is not None and queue.type == QUEUE:
            yield mapping, queue
        elif queue is None and ":sqs:" in text(source):
            yield mapping, None


def dead_letter_references(templates: Templates) -> Iterator[tuple[Resource, Value]]:
    """Every place where a resource names a queue for what it gave up on: the resource and the reference."""
    for queue in templates.of_type(QUEUE):
        if isinstance(policy := queue.properties.get("RedrivePolicy"), dict):
            yield queue, policy.get("deadLetterTargetArn")
    for rule in templates.of_type("AWS::Events::Rule"):
        for target in listed(rule.properties.get("Targets")):
            yield rule, target.get("DeadLetterConfig", {}).get("Arn")
    for schedule in templates.of_type("AWS::Scheduler::Schedule"):
        yield schedule, schedule.properties.get("Target", {}).get("DeadLetterConfig", {}).get("Arn")
    for function in templates.of_type("AWS::Lambda::Function"):
        yield function, function.properties.get("DeadLetterConfig", {}).get("TargetArn")
    for failing in templates.of_type("AWS::Lambda::EventInvokeConfig", MAPPING):
        yield failing, failing.properties.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
    for subscription in templates.of_type("AWS::SNS::Subscription"):
        if isinstance(policy := subscription.properties.get("RedrivePolicy"), dict):
            yield subscription, policy.get("deadLetterTargetArn")


def dead_letter_queues(templates: Templates) -> dict[int, tuple[Resource, list[Resource]]]:
    """The queues that take dead letters, by their identity, each with the resources whose dead letters it takes."""
    found: dict[int, tuple[Resource, list[Resource]]] = {}
    for source, reference in dead_letter_references(templates):
        queue = templates.target(source, reference)
        if queue is not None and queue.type == QUEUE:
            found.setdefault(id(queue), (queue, []))[1].append(source)
    return found


def _window(mapping: Resource) -> int | None:
    return mapping.number("MaximumBatchingWindowInSeconds", 0)


def _queue_visibility(templates: Templates) -> Iterator[Finding]:
    for mapping, queue in queue_mappings(templates):
        function = called_function(templates, mapping, mapping.properties.get("FunctionName"))
        if queue is None or function is None:
            continue
        visibility = queue.number("VisibilityTimeout", DEFAULT_VISIBILITY_SECONDS)
        timeout = function.number("Timeout", DEFAULT_FUNCTION_TIMEOUT_SECONDS)
        window = _window(mapping)
        if visibility is None or timeout is None or window is None:
            continue
        wanted = VISIBILITY_FACTOR * timeout + window
        if visibility < wanted:
            yield Finding(
                queue,
                f"The queue hides a message for {visibility} s, but its function {function} may take {timeout} s"
                f" (batching window {window} s): messages come back while they are worked on.",
                f"Set VisibilityTimeout to at least {wanted} s"
                f" ({VISIBILITY_FACTOR} x {timeout} s + {window} s), or the function's timeout lower.",
                "Properties/VisibilityTimeout",
            )


def _partial_batch_response(templates: Templates) -> Iterator[Finding]:
    for mapping, _ in queue_mappings(templates):
        if "ReportBatchItemFailures" not in listed(mapping.properties.get("FunctionResponseTypes")):
            yield Finding(
                mapping,
                "The function cannot say which records of a batch failed: what it answers is not read, and one bad"
                " record repeats the whole batch or is deleted unprocessed.",
                "Set FunctionResponseTypes to ['ReportBatchItemFailures'] (report_batch_item_failures=True) and answer"
                " with batchItemFailures.",
                "Properties/FunctionResponseTypes",
            )


def _queue_dead_letters(templates: Templates) -> Iterator[Finding]:
    takers = dead_letter_queues(templates)
    for queue in templates.of_type(QUEUE):
        policy = queue.properties.get("RedrivePolicy")
        if id(queue) not in takers and not (isinstance(policy, dict) and policy.get("deadLetterTargetArn")):
            yield Finding(
                queue,
                "The queue has no dead-letter queue: a message that always fails is tried until it expires, then it is"
                " gone without a word.",
                "Give it a RedrivePolicy with a dead-letter queue.",
                "Properties/RedrivePolicy",
            )


def _dead_letter_retention(templates: Templates) -> Iterator[Finding]:
    for queue, sources in dead_letter_queues(templates).values():
        kept = queue.number("MessageRetentionPeriod", DEFAULT_RETENTION_SECONDS)
        waits = [
            (period, source)
            for source in sources
            if source.type == QUEUE
            and (period := source.number("MessageRetentionPeriod", DEFAULT_RETENTION_SECONDS)) is not None
        ]
        longest, source = max(waits, key=lambda wait: wait[0], default=(0, queue))
        if kept is not None and kept < longest:
            # Expiry counts from the first enqueue, not from the move (SQS Developer Guide, "Using dead-letter queues").
            yield Finding(
                queue,
                f"The dead-letter queue keeps messages for {kept} s, its source {source} for {longest} s; their age"
                " counts from the first enqueue, so dead letters can expire before anyone sees them.",
                f"Set MessageRetentionPeriod to at least {longest} s; 1209600 (14 days) is the most.",
                "Properties/MessageRetentionPeriod",
            )


def _target_dead_letters(templates: Templates) -> Iterator[Finding]:
    fix = "Give the target a DeadLetterConfig with a queue of its own."
    for rule in templates.of_type("AWS::Events::Rule"):
        for index, target in enumerate(listed(rule.properties.get("Targets"))):
            if not target.get("DeadLetterConfig", {}).get("Arn"):
                yield Finding(
                    rule,
                    f"The rule's target '{target.get('Id', index)}' has no dead-letter queue: an event that the bus"
                    " cannot hand over within its retries is dropped.",
                    fix,
                    f"Properties/Targets/{index}/DeadLetterConfig",
                )
    for schedule in templates.of_type("AWS::Scheduler::Schedule"):
        if not schedule.properties.get("Target", {}).get("DeadLetterConfig", {}).get("Arn"):
            yield Finding(
                schedule,
                "The schedule's target has no dead-letter queue: a call that fails within its retries is dropped.",
                fix,
                "Properties/Target/DeadLetterConfig",
            )


def _batch_size(templates: Templates) -> Iterator[Finding]:
    for mapping, queue in queue_mappings(templates):
        batch, window = mapping.number("BatchSize", DEFAULT_BATCH_SIZE), _window(mapping)
        if batch is None or window is None:
            continue
        fifo = queue is not None and queue.properties.get("FifoQueue") in (True, "true")
        if bound := _unbatchable(batch, window, fifo=fifo):
            yield Finding(mapping, *bound, "Properties/BatchSize")
            continue
        function = called_function(templates, mapping, mapping.properties.get("FunctionName"))
        if queue is None or function is None:
            continue
        memory = function.number("MemorySize", DEFAULT_FUNCTION_MEMORY_MB)
        message = queue.number("MaximumMessageSize", DEFAULT_MESSAGE_BYTES)
        if memory is None or message is None:
            continue
        heaviest = min(batch * message, MAX_PAYLOAD_BYTES)
        needed = MEMORY_AT_REST_MB + -(-heaviest * MEMORY_PER_PAYLOAD_BYTE // 1_000_000)
        if memory < needed:
            fitting = max(1, (memory - MEMORY_AT_REST_MB) * 1_000_000 // (MEMORY_PER_PAYLOAD_BYTE * message))
            yield Finding(
                mapping,
                f"A batch of {batch} messages of up to {message} bytes can weigh {heaviest} bytes, which takes about"
                f" {needed} MB to decode; the function {function} has {memory} MB.",
                f"Give the function {needed} MB or more, set BatchSize to {fitting}, or bound the messages with"
                " MaximumMessageSize.",
                "Properties/BatchSize",
            )


def _unbatchable(batch: int, window: int, *, fifo: bool) -> tuple[str, str] | None:
    """Why Lambda would refuse this batch at deployment, and the fix; None where it takes it."""
    if fifo and batch > MAX_BATCH_FIFO:
        return (
            f"A FIFO queue hands over at most {MAX_BATCH_FIFO} messages, not {batch}.",
            "Set BatchSize to 10 or less.",
        )
    if fifo and window:
        return "A FIFO queue takes no batching window.", "Leave MaximumBatchingWindowInSeconds out."
    if batch > MAX_BATCH_STANDARD:
        return f"A batch holds at most {MAX_BATCH_STANDARD} messages, not {batch}.", "Set BatchSize to 10000 or less."
    if batch > MAX_BATCH_WITHOUT_WINDOW and window < 1:
        return (
            f"A batch of {batch} needs a batching window: without one it holds at most {MAX_BATCH_WITHOUT_WINDOW}.",
            "Set MaximumBatchingWindowInSeconds to 1 or more (the queue's visibility grows by it).",
        )
    return None


def _unbounded_concurrency(templates: Templates) -> Iterator[Finding]:
    bounds: dict[int, list[int]] = defaultdict(list)
    for mapping, _ in queue_mappings(templates):
        bound = number(mapping.properties.get("ScalingConfig", {}).get("MaximumConcurrency"))
        function = called_function(templates, mapping, mapping.properties.get("FunctionName"))
        if bound is not None and function is not None:
            bounds[id(function)].append(bound)
        declared = mapping.properties.get("ScalingConfig", {}).get("MaximumConcurrency")
        pollers = mapping.properties.get("ProvisionedPollerConfig", {}).get("MaximumPollers")
        if declared is None and pollers is None:
            yield Finding(
                mapping,
                "The queue may start as many invocations as the account has: one full queue starves every other"
                " function and overruns what the function calls.",
                "Set ScalingConfig.MaximumConcurrency (max_concurrency=2 to 1000) to what the function's database or"
                " third party stands.",
                "Properties/ScalingConfig",
            )
    for function in templates.of_type("AWS::Lambda::Function"):
        reserved = number(function.properties.get("ReservedConcurrentExecutions"))
        together = sum(bounds[id(function)])
        if reserved is not None and together > reserved:
            yield Finding(
                function,
                f"The function reserves {reserved} concurrent executions, its queues may start {together}: batches"
                " beyond it are throttled, and each time uses up one of their messages' receives.",
                f"Reserve at least {together}, or lower MaximumConcurrency.",
                "Properties/ReservedConcurrentExecutions",
            )


def _dead_letter_alarm(templates: Templates) -> Iterator[Finding]:
    if not templates.alarmed:
        return
    watched = set()
    for alarm in templates.of_type("AWS::CloudWatch::Alarm"):
        metrics = [alarm.properties]
        metrics += [entry.get("MetricStat", {}).get("Metric", {}) for entry in listed(alarm.properties.get("Metrics"))]
        for metric in metrics:
            if metric.get("Namespace") == "AWS/SQS" and metric.get("MetricName") in WATCHING_METRICS:
                for dimension in listed(metric.get("Dimensions")):
                    watched.add(id(templates.target(alarm, dimension.get("Value"))))
    for queue, _ in dead_letter_queues(templates).values():
        if id(queue) not in watched:
            yield Finding(
                queue,
                "Nobody is told when a dead letter arrives: no alarm watches this dead-letter queue.",
                "Add an alarm on its ApproximateNumberOfMessagesVisible (NumberOfMessagesSent does not count messages"
                " that a redrive policy moves).",
                "Properties",
            )


RULES = (
    Rule(
        "queue-visibility",
        "a queue whose visibility timeout is under 6 x its function's timeout plus the batching window",
        _queue_visibility,
    ),
    Rule(
        "partial-batch-response",
        "an event source mapping of a queue without `ReportBatchItemFailures`",
        _partial_batch_response,
    ),
    Rule("queue-dead-letters", "a queue that is no dead-letter queue and has none", _queue_dead_letters),
    Rule(
        "dead-letter-retention",
        "a dead-letter queue that keeps messages for less time than a queue it serves",
        _dead_letter_retention,
    ),
    Rule(
        "dead-letter-alarm",
        "a dead-letter queue that no alarm watches, where the environment has an address for alarms",
        _dead_letter_alarm,
    ),
    Rule(
        "target-dead-letters",
        "an EventBridge rule's or schedule's target without a dead-letter queue",
        _target_dead_letters,
    ),
    Rule(
        "batch-size",
        "a batch that Lambda refuses (FIFO over 10, over 10 without a window, over 10,000) or that the function's"
        " memory cannot decode",
        _batch_size,
    ),
    Rule(
        "unbounded-concurrency",
        "an event source mapping of a queue without `MaximumConcurrency`, or a function that reserves less than its"
        " mappings may start",
        _unbounded_concurrency,
    ),
)
"""The rules of this module."""
