"""The clinic's stacks: each pattern once."""

from __future__ import annotations

from aws_cdk import App
from constructs import Construct

from clinic.catalogue import CATALOGUE
from clinic.contracts.jobs import PATIENT_GROUPS, PATIENTS_SHARD, VISIT_IMPORT, WARD_REPORT
from clinic.contracts.laboratory import LABORATORY
from clinic.contracts.supplies import SupplyLow
from clinic.contracts.visits import VisitCancelled, VisitEnded
from offload.cdk import (
    Access,
    BackgroundJob,
    Environment,
    EnvironmentStack,
    EventConsumer,
    Integration,
    MonolithAccess,
    Platform,
    Table,
    WebhookReceiver,
    WebhookSender,
    composition,
)
from offload.contracts.webhooks_in.providers import GITHUB, SHOPIFY, SLACK, STANDARD_WEBHOOKS, STRIPE, SVIX

_SENDERS = {
    "GitHub": GITHUB,
    "Stripe": STRIPE,
    "Slack": SLACK,
    "Shopify": SHOPIFY,
    "StandardWebhooks": STANDARD_WEBHOOKS,
    "Svix": SVIX,
    "Laboratory": LABORATORY,
}


class Ledger(Construct):
    """What visits cost: sums by day, ward and item."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.sums = Table(self, "Sums")
        self.variables = {"LEDGER_TABLE": self.sums.table_name}

    @property
    def write(self) -> Access:
        """May add postings and fold them."""
        actions = ("PutItem", "DeleteItem", "GetItem", "BatchGetItem", "Query")
        return Access(lambda grantee: self.sums.allow(grantee, *actions), self.variables)

    @property
    def read(self) -> Access:
        """May read the sums."""
        return Access(lambda grantee: self.sums.allow(grantee, "GetItem", "Query"), self.variables)


class SupplyLevels(Construct):
    """The units on hand."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.shelves = Table(self, "Shelves", sort_key=False)

    @property
    def write(self) -> Access:
        """May read and replace an item's units."""
        return Access(
            lambda grantee: self.shelves.allow(grantee, "PutItem", "BatchGetItem"),
            {"SUPPLY_TABLE": self.shelves.table_name},
        )


class Clinic(EnvironmentStack):
    """A list of use cases."""

    def __init__(self, scope: Construct, construct_id: str, *, platform: Platform) -> None:
        super().__init__(scope, construct_id)
        ledger = Ledger(self, "Ledger")
        levels = SupplyLevels(self, "SupplyTable")
        EventConsumer(
            self,
            "VisitLedger",
            source="visit_ledger",
            events=(VisitEnded, VisitCancelled),
            bus=platform.bus,
            grants=(ledger.write,),
        )
        EventConsumer(
            self,
            "SupplyLevels",
            source="supply_levels",
            events=(VisitEnded, VisitCancelled),
            bus=platform.bus,
            grants=(levels.write, platform.bus.publish(SupplyLow)),
            concurrency=2,
        )
        BackgroundJob(
            self,
            "WardReport",
            source="ward_report",
            job=WARD_REPORT,
            service=platform.jobs,
            grants=(ledger.read, Integration(self, "Registry", third_party="registry", per_second=1).call),
        )
        BackgroundJob(
            self,
            "VisitImport",
            source="visit_import",
            job=VISIT_IMPORT,
            service=platform.jobs,
            grants=(platform.jobs.uploads, platform.bus.publish(VisitEnded)),
        )
        shard = BackgroundJob(
            self,
            "PatientsShard",
            source="patients_shard",
            job=PATIENTS_SHARD,
            service=platform.jobs,
            grants=(platform.jobs.uploads,),
        )
        BackgroundJob(
            self,
            "PatientGroups",
            source="patient_groups",
            job=PATIENT_GROUPS,
            service=platform.jobs,
            grants=(platform.jobs.uploads,),
            starts=(shard,),
        )
        for name, provider in _SENDERS.items():
            WebhookReceiver(self, name, provider=provider, bus=platform.bus)
        webhooks_out = WebhookSender(
            self, "WebhooksOut", events=platform.bus.catalogue.outward_types, platform=platform
        )
        MonolithAccess(
            self,
            "Monolith",
            monolith=Environment.of(self).monolith,
            bus=platform.bus,
            publishes=(VisitEnded, VisitCancelled),
            claims=True,
            jobs=platform.jobs,
            subscriptions=webhooks_out,
        )


@composition
def compose(app: App, environment: Environment) -> None:
    """Adds the environment's stacks to the app."""
    platform = Platform(app, f"offload-{environment.name}-platform", catalogue=CATALOGUE)
    Clinic(app, f"offload-{environment.name}-clinic", platform=platform)
