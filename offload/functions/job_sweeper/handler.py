"""Looks each minute at the jobs whose time has come, and starts those that a schedule asks for.

Two that run at once do no harm: each change is conditional, and a nudge may come twice. What one leaves out, or does
not get to before its time is up, keeps its time in the table, and the next one finds it.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from offload.contracts.jobs.job import State
from offload.runtime import aws
from offload.runtime.catalogue import catalogue
from offload.runtime.jobs import schedules
from offload.runtime.jobs.refusals import JobRefused, NotDeployed
from offload.runtime.jobs.store import JobStore
from offload.runtime.jobs.sweep import Due
from offload.runtime.jobs.table import LOOK_AHEAD
from offload.runtime.log import Logger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# Settling is waiting for DynamoDB and SQS; a client keeps 10 connections.
_WORKERS: Final = 8
# What is left of the invocation's time then is for the settling in flight, the schedules' counts and the log line.
_SPARE_MILLIS: Final = 10_000

# While nothing is open, nothing changes the counters: 48 reads each minute would be a third of an idle month's bill.
_COUNTS_EVERY: Final = 5  # minutes

JOB_TYPES: Final = catalogue().job_types
store = JobStore.from_environment(JOB_TYPES)
log = Logger(service="job_sweeper")


class _Counters:
    """Whether what was accepted has ended or is open, as the counters say."""

    def __init__(self) -> None:
        self._quiet: bool | None = None

    def look(self, *, idle: bool) -> dict[str, Any]:
        """What the log says of it: nothing while all have ended, for a metric that gets a value costs by the hour.

        The first look at which all have ended says so, as the alarm goes by the least of five minutes. `idle` says that
        the sweep had nothing to do. Then, and when nothing was open at the last look, most looks are left out.
        """
        if self._quiet and idle and store.now().minute % _COUNTS_EVERY:
            return {}
        tallies = store.tallies(list(JOB_TYPES))
        missing = {name: tally.missing for name, tally in tallies.items() if tally.missing}
        before, self._quiet = self._quiet, not missing and not any(tally.open for tally in tallies.values())
        return (
            {}
            if self._quiet and before is not False
            else {"missing": missing, "missing_jobs": sum(map(abs, missing.values()))}
        )


counters = _Counters()


class SweepIncomplete(Exception):
    """Some of what was due could not be settled; the function's error alarm tells of it."""


def handler(_event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
    """Starts what schedules ask for, then settles what is due or soon will be; returns how often it did what.

    Raises SweepIncomplete, when all else is done, if something could not be looked at.
    """
    done = _fire_schedules() + _settle(context)
    failed = done["failed"]
    log.info("sweep", counts=dict(done), **counters.look(idle=not done), request_id=context.aws_request_id)
    if failed:
        raise SweepIncomplete(f"{failed} jobs or schedules could not be looked at; the log names each")
    return dict(done)


def _fire_schedules() -> Counter[str]:
    done: Counter[str] = Counter()
    for job_type in JOB_TYPES.values():
        try:
            fired = schedules.fire(store, job_type)
        except NotDeployed:
            done["schedules not deployed"] += 1
        except (BotoCoreError, ClientError, JobRefused, schedules.BadSchedule):
            # One schedule's trouble is not the others'; its fire time stands, so the next minute looks again.
            log.exception("schedule", job_type=job_type.name, outcome="failed")
            done["failed"] += 1
        else:
            done["scheduled"] += fired.started
            done["skipped fire times"] += fired.skipped
            done["waiting fire times"] += fired.waiting
    return +done


def _settle(context: LambdaContext) -> Counter[str]:
    # Clients are made one at a time, before the workers share them.
    aws.dynamodb(), aws.sqs(), aws.events(), aws.ssm(), aws.s3()
    now = store.now()
    due = [found for found in store.due(now + LOOK_AHEAD) if found.at <= now or found.state is State.WAITING]
    # The longest overdue first, should time run out.
    due.sort(key=lambda found: found.at)

    def settle(found: Due) -> str:
        if context.get_remaining_time_in_millis() < _SPARE_MILLIS:
            return "left for the next minute"
        return _settle_one(found)

    with ThreadPoolExecutor(_WORKERS) as pool:
        return Counter(pool.map(settle, due))


def _settle_one(due: Due) -> str:
    if due.type not in JOB_TYPES:
        log.error(
            "settle", job_id=due.job_id, job_type=due.type, outcome="unknown type: put it back into the catalogue"
        )
        return "failed"
    try:
        return store.settle(JOB_TYPES[due.type], due.job_id) or "nothing"
    except NotDeployed as error:
        log.warning("settle", job_id=due.job_id, job_type=due.type, outcome="not deployed", detail=str(error))
        return "not deployed"
    except (BotoCoreError, ClientError, JobRefused):
        # One job's trouble is not the others'; its time stands, so the next minute looks again.
        log.exception("settle", job_id=due.job_id, job_type=due.type, outcome="failed")
        return "failed"
