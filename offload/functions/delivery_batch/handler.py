"""Brings deliveries back in numbers. Every step may be repeated: what was done is found done."""

from __future__ import annotations

from datetime import timedelta

from offload.contracts.webhooks_out.recovery import Recovered, Recovery, What
from offload.runtime.catalogue import catalogue
from offload.runtime.jobs.run import Permanent, Run, job
from offload.runtime.webhooks_out.deployed import SendingSettings, utc_now
from offload.runtime.webhooks_out.recoveries import Recoveries, concerns

from .failed import Failed
from .missing import Missing
from .replay import Replay


class BatchSettings(SendingSettings, frozen=True, kw_only=True):
    """And what the stack with the WebhookSender gives this function."""

    offload_job: str
    offload_journal_table: str
    offload_archive: str
    offload_archived_bus: str
    offload_archive_late_minutes: int
    offload_planner_rule: str


settings = BatchSettings.from_environment()
policy = settings.policy
subscriptions, deliveries, tokens = settings.subscriptions, settings.deliveries, settings.tokens
recoveries = Recoveries(settings.offload_subscriptions_table, utc_now)
outward = catalogue().outward_examples


# Of several senders in an environment each has a recovery of its own name.
@job(catalogue().job_types[settings.offload_job])
def handler(wanted: Recovery, run: Run) -> Recovered:
    """Counts what is to be brought back and, unless it is a dry run, brings it back."""
    now = utc_now()
    if wanted.since > now or (wanted.until is not None and wanted.until <= wanted.since):
        raise Permanent(f"from {wanted.since.isoformat()} to {wanted.until or 'now'}: there is no such period")
    records = [record for record in subscriptions.all() if concerns(wanted, record)]
    if wanted.subscription is not None and not records:
        raise Permanent(f"there is no subscription '{wanted.subscription}', or it is not of this tenant")
    if wanted.action is What.FAILED:
        return Failed(deliveries, tokens, policy).recover(wanted, records, run)
    if wanted.before_creation and wanted.subscription is None:
        raise Permanent("what is from before a subscription was there is brought to one `subscription`: name it")
    if wanted.since < now - policy.record_kept:
        raise Permanent(
            f"since {wanted.since.isoformat()}: records of deliveries are kept for {policy.record_days} days, "
            "so from before that nobody can say what is missing"
        )
    late = timedelta(minutes=settings.offload_archive_late_minutes)
    if wanted.since >= now - late:
        raise Permanent(
            f"since {wanted.since.isoformat()}: an event may be on the bus for {late.seconds // 60} minutes before its "
            f"archive has it, so nothing can be said of what came since yet: ask again after "
            f"{(wanted.since + late).isoformat(timespec='seconds')}"
        )
    replay = Replay(f"{run.id}", settings.offload_archive, settings.offload_archived_bus, settings.offload_planner_rule)
    missing = Missing(deliveries, recoveries, settings.offload_journal_table, replay, outward)
    return missing.recover(wanted, records, run, now, now - late)
