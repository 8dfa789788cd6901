"""The bill of a month in which nothing arrives, from an environment's templates.

Every resource is either priced or named as one that costs nothing of itself; a type that is neither is an error. What a
resource uses while nothing arrives is counted in AWS's own units, and the units are priced once for the whole account,
because what is free is free once.

Not in it: the runs of jobs that have a schedule, which are work (`bench/jobs/cost.py` prices it), the CDK's bootstrap
stack, taxes, and support plans.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from offload.cli.catalogue import catalogue
from offload.cli.costs import prices
from offload.cli.costs.sweeps import idle_calls
from offload.cli.deployment.failure import Failure
from offload.contracts.functions import folder_of, source_of
from offload.contracts.idle import COMMON_FIELDS, IdleCall

Template: TypeAlias = Mapping[str, Any]

LONG_POLL: Final = 20
"""Assumed: seconds that a poller of Lambda's waits at an empty queue for each request, the longest that SQS knows
(sqs-short-and-long-polling.html, read 2026-11-27). AWS says that Lambda polls long, and not how long."""
POLLERS: Final = 2
"""Of an idle queue (lambda/latest/dg/services-sqs-scaling.html, "as few as 2 concurrent batches", read 2026-11-29)."""
POLLERS_WITH_MAXIMUM: Final = 5
"""Of an idle queue with a maximum concurrency, for which AWS does not reduce them (the same page)."""

_SECONDS: Final = prices.HOURS * 3600
_DAYS: Final = prices.HOURS / 24
_GB: Final = 1e9
_MINUTES_OF: Final = {"minute": 1, "hour": 60, "day": 24 * 60}
_RATE: Final = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_FIELD: Final = re.compile(r"\$\.([A-Za-z_]+)")
_FAST: Final = 60  # seconds: an alarm with a shorter period is of high resolution


class UnpricedResource(Failure):
    """A template holds what this module has no price for, in one line with the stack and the logical id."""


@dataclass(frozen=True)
class Meter:
    """What AWS counts: `price` is dollars for a unit, `free` the units that an account has free every month."""

    name: str
    unit: str
    price: float
    free: float = 0


SQS: Final = Meter("queues", "requests", prices.SQS / prices.MILLION, prices.FREE_SQS_REQUESTS)
FIFO: Final = Meter("FIFO queues", "requests", prices.SQS_FIFO / prices.MILLION)
POLLER_HOURS: Final = Meter("provisioned pollers", "hours", prices.LAMBDA_POLLER_HOUR)
ALARMS: Final = Meter("alarms", "metrics", prices.ALARM, prices.FREE_ALARMS)
FAST_ALARMS: Final = Meter("alarms of high resolution", "metrics", prices.FAST_ALARM)
COMPOSITES: Final = Meter("composite alarms", "alarms", prices.COMPOSITE_ALARM)
METRICS: Final = Meter("custom metrics", "metrics", prices.METRIC, prices.FREE_METRICS)
DASHBOARDS: Final = Meter("dashboards", "dashboards", prices.DASHBOARD, prices.FREE_DASHBOARDS)
SECRETS: Final = Meter("secrets", "secrets", prices.SECRET)
KEYS: Final = Meter("keys", "keys", prices.KMS_KEY)
PARAMETERS: Final = Meter("advanced parameters", "parameters", prices.ADVANCED_PARAMETER)
SCHEDULER: Final = Meter("Scheduler", "invocations", prices.SCHEDULER / prices.MILLION, prices.FREE_SCHEDULER)
REQUESTS: Final = Meter(
    "Lambda, requests", "requests", prices.LAMBDA_REQUESTS / prices.MILLION, prices.FREE_LAMBDA_REQUESTS
)
TIME: Final = Meter("Lambda, time", "GB-seconds", prices.LAMBDA_GB_SECOND, prices.FREE_LAMBDA_GB_SECONDS)
TIME_X86: Final = Meter("Lambda, time on x86", "GB-seconds", prices.LAMBDA_GB_SECOND_X86)
TRACES: Final = Meter("traces", "traces", prices.TRACES / prices.MILLION, prices.FREE_TRACES)
READS: Final = Meter("DynamoDB, reads", "units", prices.READ_UNITS / prices.MILLION)
WRITES: Final = Meter("DynamoDB, writes", "units", prices.WRITE_UNITS / prices.MILLION)
LOGS: Final = Meter("logs, taken in", "GB", prices.LOGS_GB, prices.FREE_LOGS_GB)
LOGS_KEPT: Final = Meter("logs, kept", "GB-months", prices.LOGS_KEPT_GB)
METERS: Final = (
    SQS, FIFO, POLLER_HOURS, ALARMS, FAST_ALARMS, COMPOSITES, METRICS, DASHBOARDS, SECRETS, KEYS, PARAMETERS, SCHEDULER,
    REQUESTS, TIME, TIME_X86, TRACES, READS, WRITES, LOGS, LOGS_KEPT,
)  # fmt: skip
"""In the order in which a bill has them."""


@dataclass(frozen=True)
class Usage:
    """What one resource uses in the month, of one meter. `why` says what uses it, in the singular: "secret"."""

    meter: Meter
    amount: float
    why: str


@dataclass(frozen=True)
class Part:
    """All that an environment uses of a meter; `reasons` say how many of what use it: "13 x secret"."""

    meter: Meter
    amount: float
    reasons: tuple[str, ...]

    @property
    def listed(self) -> float:
        """Dollars at list price."""
        return self.amount * self.meter.price

    @property
    def to_pay(self) -> float:
        """Dollars after what is free, as if nothing else in the account used it."""
        return max(0.0, self.amount - self.meter.free) * self.meter.price


@dataclass(frozen=True)
class Bill:
    """A month in which nothing arrives.

    `constructs` are dollars at list price by the constructs of the stacks, the dearest first. `nothing` has the
    resource types that cost nothing, with number and reason.
    """

    environment: str
    parts: tuple[Part, ...]
    constructs: tuple[tuple[str, float], ...]
    nothing: tuple[tuple[str, int, str], ...]

    @property
    def listed(self) -> float:
        """Dollars at list price."""
        return sum(part.listed for part in self.parts)

    @property
    def to_pay(self) -> float:
        """Dollars after what is free."""
        return sum(part.to_pay for part in self.parts)

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "environment": self.environment,
            "listed": round(self.listed, 4),
            "after_free": round(self.to_pay, 4),
            "parts": [
                {
                    "part": part.meter.name,
                    "amount": round(part.amount, 4),
                    "unit": part.meter.unit,
                    "listed": round(part.listed, 4),
                    "after_free": round(part.to_pay, 4),
                    "reasons": list(part.reasons),
                }
                for part in self.parts
            ],
            "constructs": {name: round(dollars, 4) for name, dollars in self.constructs},
            "nothing": [{"type": kind, "count": count, "reason": reason} for kind, count, reason in self.nothing],
        }


def bill(environment: str, templates: Mapping[str, Template]) -> Bill:
    """The bill of an environment's templates, which are by the stacks' names.

    Raises UnpricedResource for a resource type, or a setting of one, that has no price here.
    """
    amounts: defaultdict[Meter, float] = defaultdict(float)
    reasons: defaultdict[Meter, Counter[str]] = defaultdict(Counter)
    constructs: defaultdict[str, float] = defaultdict(float)
    nothing: Counter[str] = Counter()
    for resource in _resources(templates):
        priced = _PRICED.get(resource.type)
        if priced is None and resource.type not in _NOTHING:
            raise resource.unpriced(f"{resource.type} has no price: give it one, or a reason to have none")
        usages = list(priced(resource)) if priced else []
        for usage in usages:
            amounts[usage.meter] += usage.amount
            reasons[usage.meter][usage.why] += 1
            constructs[resource.construct] += usage.amount * usage.meter.price
        if not usages:
            nothing[resource.type] += 1
    return Bill(
        environment,
        tuple(
            Part(meter, amounts[meter], tuple(f"{count} x {why}" for why, count in sorted(reasons[meter].items())))
            for meter in METERS
            if meter in amounts
        ),
        tuple(sorted(constructs.items(), key=lambda each: (-each[1], each[0]))),
        tuple((kind, count, _NOTHING.get(kind) or _IDLE[kind]) for kind, count in sorted(nothing.items())),
    )


# -- reading templates


@dataclass(frozen=True)
class _Resource:
    stack: str
    logical_id: str
    type: str
    construct: str
    properties: Mapping[str, Any]
    siblings: Mapping[str, Any]
    """All resources of its stack's template, as they stand there."""

    def unpriced(self, what: str) -> UnpricedResource:
        return UnpricedResource(f"{self.stack}/{self.logical_id}: {what} (offload/cli/costs/bill.py)")

    def referred(self, value: Any, kind: str) -> str | None:
        """The logical id that a `Ref` or `Fn::GetAtt` names, if that is of the type."""
        if not isinstance(value, Mapping):
            return None
        target = value.get("Ref") or (value.get("Fn::GetAtt") or [None])[0]
        return target if target in self.siblings and self.siblings[target]["Type"] == kind else None


def _resources(templates: Mapping[str, Template]) -> Iterator[_Resource]:
    for stack, template in sorted(templates.items()):
        siblings = template.get("Resources", {})
        for logical_id, resource in sorted(siblings.items()):
            path = resource.get("Metadata", {}).get("aws:cdk:path", "").split("/")
            construct = path[1] if len(path) > 1 else logical_id
            yield _Resource(stack, logical_id, resource["Type"], construct, resource.get("Properties", {}), siblings)


# -- what each type uses


def _mapping(resource: _Resource) -> Iterator[Usage]:
    """Lambda polls the queue whether something is in it or not."""
    settings = resource.properties
    if resource.referred(settings.get("EventSourceArn"), "AWS::SQS::Queue") is None:
        raise resource.unpriced("it is the mapping of something else than a queue of its stack")
    fifo = bool(resource.siblings[_arn_of(settings["EventSourceArn"])].get("Properties", {}).get("FifoQueue"))
    provisioned = settings.get("ProvisionedPollerConfig")
    if provisioned:
        pollers = provisioned.get("MinimumPollers", 2)
        yield Usage(POLLER_HOURS, pollers * prices.HOURS, f"queue with {pollers} provisioned pollers")
    elif "MaximumConcurrency" in settings.get("ScalingConfig", {}):
        pollers = POLLERS_WITH_MAXIMUM
    else:
        pollers = POLLERS
    yield Usage(
        FIFO if fifo else SQS,
        pollers * _SECONDS / LONG_POLL,
        f"queue at which Lambda has {pollers} pollers, a request each {LONG_POLL} s",
    )


def _arn_of(value: Mapping[str, Any]) -> str:
    return str(value["Fn::GetAtt"][0])


def _schedule(resource: _Resource) -> Iterator[Usage]:
    """The invocation, and what the function does in it when there is nothing to do."""
    settings = resource.properties
    rate = _RATE.fullmatch(settings["ScheduleExpression"])
    if rate is None:
        raise resource.unpriced(f"the schedule '{settings['ScheduleExpression']}' is no rate")
    every = int(rate[1]) * _MINUTES_OF[rate[2]]
    calls = prices.HOURS * 60 / every
    called = resource.referred(settings["Target"]["Arn"], "AWS::Lambda::Function")
    if called is None:
        raise resource.unpriced("its target is no function of its stack")
    function = resource.siblings[called]["Properties"]
    sweep = _idle_call(function)
    if sweep is None:
        handler = str(function.get("Handler", ""))
        source = source_of(handler)
        named = folder_of(source) if source else handler
        raise resource.unpriced(f"what an idle call of {named} does is not in the catalogue's idle_calls")
    how_often = "each minute" if every == 1 else f"each {every} minutes"
    why = f"function called {how_often}"
    yield Usage(SCHEDULER, calls, f"schedule, {how_often}")
    yield Usage(REQUESTS, calls, why)
    time = TIME if function.get("Architectures") == ["arm64"] else TIME_X86
    yield Usage(time, calls * sweep.seconds * function.get("MemorySize", 128) / 1024, why)
    if function.get("TracingConfig", {}).get("Mode") == "Active":
        yield Usage(TRACES, calls, f"{why} and traced")
    yield Usage(READS, calls * sweep.read_units, f"{why} that looks into a table")
    if sweep.write_units:
        yield Usage(WRITES, calls * sweep.write_units, f"{why} that notes the time of schedules")
    yield Usage(LOGS, calls * sweep.logged / _GB, why)
    yield Usage(LOGS_KEPT, calls * sweep.logged / _GB * _retention(resource, function) / _DAYS, why)


def _retention(resource: _Resource, function: Mapping[str, Any]) -> float:
    group = resource.referred(function.get("LoggingConfig", {}).get("LogGroup"), "AWS::Logs::LogGroup")
    days = resource.siblings[group]["Properties"].get("RetentionInDays") if group else None
    if days is None:
        raise resource.unpriced("the logs of its function are kept for ever")
    return float(days)


def _alarm(resource: _Resource) -> Iterator[Usage]:
    settings = resource.properties
    several = [each for each in settings.get("Metrics", ()) if "MetricStat" in each]
    periods = [each["MetricStat"]["Period"] for each in several] or [settings.get("Period", _FAST)]
    kind = FAST_ALARMS if min(periods) < _FAST else ALARMS
    yield Usage(kind, len(periods), "alarm" if len(periods) == 1 else f"alarm on {len(periods)} metrics")


def _composite(_resource: _Resource) -> Iterator[Usage]:
    yield Usage(COMPOSITES, 1, "alarm on alarms")


def _metric_filter(resource: _Resource) -> Iterator[Usage]:
    """A metric is billed for the hours in which it gets a value: here when a line of an idle function is one of it."""
    sweep = _idle_lines(resource)
    if any("DefaultValue" in each for each in resource.properties["MetricTransformations"]):
        yield Usage(METRICS, 1, "metric of a log with a default value, which every line feeds")
    elif (
        sweep is not None and set(_FIELD.findall(resource.properties["FilterPattern"])) <= sweep.fields | COMMON_FIELDS
    ):
        yield Usage(METRICS, 1, "metric of a log that an idle function feeds")


def _idle_lines(resource: _Resource) -> IdleCall | None:
    """What is logged to a metric filter's group while nothing arrives; None when nothing is."""
    group = resource.referred(resource.properties["LogGroupName"], "AWS::Logs::LogGroup")
    for name, other in resource.siblings.items():
        target = other.get("Properties", {}).get("Target", {}).get("Arn")
        if other["Type"] != "AWS::Scheduler::Schedule":
            continue
        function = resource.siblings[resource.referred(target, "AWS::Lambda::Function") or name]["Properties"]
        if function.get("LoggingConfig", {}).get("LogGroup") == {"Ref": group}:
            return _idle_call(function)
    return None


def _idle_call(function: Mapping[str, Any]) -> IdleCall | None:
    """What a call of the function does that finds nothing to do, if the framework or the catalogue says."""
    handler = str(function.get("Handler", ""))
    return idle_calls(catalogue()).get(source_of(handler) or handler)


def _secret(_resource: _Resource) -> Iterator[Usage]:
    yield Usage(SECRETS, 1, "secret")


def _key(_resource: _Resource) -> Iterator[Usage]:
    yield Usage(KEYS, 1, "customer-managed key")


def _dashboard(_resource: _Resource) -> Iterator[Usage]:
    yield Usage(DASHBOARDS, 1, "dashboard")


def _parameter(resource: _Resource) -> Iterator[Usage]:
    if resource.properties.get("Tier") == "Advanced":
        yield Usage(PARAMETERS, 1, "advanced parameter")


def _table(resource: _Resource) -> Iterator[Usage]:
    if resource.properties.get("BillingMode") != "PAY_PER_REQUEST":
        raise resource.unpriced("a table with provisioned capacity costs by the hour")
    return iter(())


def _version(resource: _Resource) -> Iterator[Usage]:
    if "ProvisionedConcurrencyConfig" in resource.properties:
        raise resource.unpriced("provisioned concurrency costs by the hour")
    return iter(())


def _rule(resource: _Resource) -> Iterator[Usage]:
    if "ScheduleExpression" in resource.properties:
        raise resource.unpriced("a rule with a schedule calls its targets also when nothing arrives: use Scheduler")
    return iter(())


_PRICED: Final[Mapping[str, Callable[[_Resource], Iterator[Usage]]]] = {
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::CloudWatch::CompositeAlarm": _composite,
    "AWS::CloudWatch::Dashboard": _dashboard,
    "AWS::DynamoDB::Table": _table,
    "AWS::Events::Rule": _rule,
    "AWS::KMS::Key": _key,
    "AWS::Lambda::EventSourceMapping": _mapping,
    "AWS::Lambda::Version": _version,
    "AWS::Logs::MetricFilter": _metric_filter,
    "AWS::SSM::Parameter": _parameter,
    "AWS::Scheduler::Schedule": _schedule,
    "AWS::SecretsManager::Secret": _secret,
}

# Types that cost nothing while nothing arrives, and what they are paid by.

_IDLE: Final[Mapping[str, str]] = {
    "AWS::DynamoDB::Table": (
        f"by use, {prices.WRITE_UNITS} $ a million writes and {prices.READ_UNITS} reads; {prices.TABLE_GB} a GB-month "
        f"({prices.FREE_TABLE_GB} GB free), {prices.PITR_GB} more where it can be restored to a point in time"
    ),
    "AWS::Events::Rule": "free: a custom event is paid once, however many rules it matches",
    "AWS::Lambda::Version": "free without provisioned concurrency",
    "AWS::Logs::MetricFilter": f"no line while nothing arrives, so no metric; {prices.METRIC} $ a month with lines",
    "AWS::SSM::Parameter": f"free in the standard tier; {prices.ADVANCED_PARAMETER} $ a month in the advanced one",
}
_BY_CALL: Final = f"by use: {prices.HTTP_API:.2f} $ a million requests"
_NOTHING: Final[Mapping[str, str]] = {
    "AWS::ApiGatewayV2::Api": _BY_CALL,
    "AWS::ApiGatewayV2::Authorizer": "part of its API",
    "AWS::ApiGatewayV2::Integration": "part of its API",
    "AWS::ApiGatewayV2::Route": "part of its API",
    "AWS::ApiGatewayV2::Stage": f"part of its API; its access log is paid as logs are, {prices.LOGS_GB:.2f} $ a GB",
    "AWS::CDK::Metadata": "no resource",
    "AWS::CloudFormation::WaitConditionHandle": "free",
    "AWS::Events::Archive": f"by use: {prices.ARCHIVED_GB:.2f} $ a GB taken in, {prices.ARCHIVE_GB} a GB-month",
    "AWS::Events::EventBus": f"by use: {prices.EVENTS:.2f} $ a million events, each started 64 KB one",
    "AWS::Events::EventBusPolicy": "free",
    "AWS::IAM::ManagedPolicy": "free",
    "AWS::IAM::Policy": "free",
    "AWS::IAM::Role": "free",
    "AWS::KMS::Alias": "free",
    "AWS::Lambda::Alias": "free without provisioned concurrency",
    "AWS::Lambda::EventInvokeConfig": "free",
    "AWS::Lambda::Function": (
        f"by use: {prices.LAMBDA_REQUESTS:.2f} $ a million requests, {prices.LAMBDA_GB_SECOND * prices.MILLION:.2f} a "
        f"million GB-seconds on arm64; a durable one also {prices.DURABLE_OPERATIONS:.2f} a million operations, "
        f"{prices.DURABLE_WRITTEN_GB} a GB written, {prices.DURABLE_KEPT_GB} a GB-month of history kept"
    ),
    "AWS::Lambda::LayerVersion": "free",
    "AWS::Lambda::Permission": "free",
    "AWS::Lambda::Url": "free: its function's requests are paid",
    "AWS::Logs::LogGroup": (
        f"by use: {prices.LOGS_GB:.2f} $ a GB taken in, {prices.LOGS_KEPT_GB} a GB-month; idle lines are above"
    ),
    "AWS::Logs::ResourcePolicy": "free",
    "AWS::S3::Bucket": f"by use: {prices.S3_GB} $ a GB-month; empty while nothing arrives",
    "AWS::S3::BucketPolicy": "free",
    "AWS::SNS::Subscription": "by use: e-mail is free to 1,000 a month",
    "AWS::SNS::Topic": f"by use: {prices.SNS:.2f} $ a million messages, a million free",
    "AWS::SNS::TopicPolicy": "free",
    "AWS::SQS::Queue": f"by use: {prices.SQS:.2f} $ a million requests; Lambda's at an empty one are above",
    "AWS::SQS::QueuePolicy": "free",
    "AWS::Scheduler::ScheduleGroup": "free",
    "AWS::SecretsManager::ResourcePolicy": "free",
}
