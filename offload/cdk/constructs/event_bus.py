"""The bus that events travel on, with its archive and the store of claim checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import cast

from aws_cdk import Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_iam as iam
from constructs import Construct

from offload.cdk.access import Access
from offload.cdk.constructs.acknowledge import acknowledge, acknowledge_objects, allow_to_miss, as_cdk_nag_writes
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.private_bucket import PrivateBucket
from offload.cdk.constructs.work_queue import DEAD_LETTER_RETENTION
from offload.cdk.environment import Environment
from offload.contracts.catalogue import CATALOGUE_VARIABLE, Catalogue
from offload.contracts.events.event import EventData

# offload/functions/delivery_batch/replay.py names them so.
_REPLAYS = "missing-*"
_CLAIM_KEY = "A claim's key is the hash of its data: known at run time."

# Of a request with several entries the key has the source of each, so it takes a set operator; that one holds of a
# request without the key too, which Null excludes (docs.aws.amazon.com/service-authorization/latest/reference/
# list_amazoneventbridge.html: ArrayOfString; docs.aws.amazon.com/IAM/latest/UserGuide/
# reference_policies_condition-single-vs-multi-valued-context-keys.html; read 2026-11-29).
_SOURCE_KEY = "events:source"


def sources_of(types: Iterable[type[EventData]]) -> list[str]:
    """The sources of event types, each once."""
    return sorted({contract.SOURCE for contract in types})


def grant_put_events(grantee: iam.IGrantable, bus_arn: str, sources: Sequence[str]) -> None:
    """Allows to publish events of these sources, and of no other, on a bus; raises ValueError for no source."""
    if not sources:
        raise ValueError("name the types of the events that are published: a grant without a source allows nothing")
    grantee.grant_principal.add_to_principal_policy(
        iam.PolicyStatement(
            actions=["events:PutEvents"],
            resources=[bus_arn],
            conditions={
                "ForAllValues:StringEquals": {_SOURCE_KEY: list(sources)},
                "Null": {_SOURCE_KEY: "false"},
            },
        )
    )


class EventBus(Construct):
    """EventBridge's classic custom bus, archived; events that are too large for it leave their data in `claims`.

    `catalogue` is what the app has: the constructs on the bus hand it to those functions of the framework's own that go
    by it.
    """

    def __init__(self, scope: Construct, construct_id: str, *, catalogue: Catalogue) -> None:
        super().__init__(scope, construct_id)
        self.catalogue = catalogue
        self.catalogue_variables = {CATALOGUE_VARIABLE: catalogue.module}
        environment = Environment.of(self)
        self.bus = events.EventBus(self, "Bus")
        self.archive = self.bus.archive(
            "Archive",
            event_pattern=events.EventPattern(account=[self.bus.env.account]),
            retention=Duration.days(environment.bus.archive_days),
        )
        encrypt(self.bus)
        encrypt(self.archive)
        # A replayed or redriven event still finds its data: the longest way back is the archive and a dead letter.
        kept = environment.bus.archive_days + DEAD_LETTER_RETENTION.to_days()
        self.claims = PrivateBucket(self, "Claims", expire_after=Duration.days(kept))

    def publish(self, *types: type[EventData]) -> Access:
        """May publish events of the sources of these types on the bus, and of no other source."""
        sources = sources_of(types)
        return Access(
            lambda grantee: grant_put_events(grantee, self.bus.event_bus_arn, sources),
            {"OFFLOAD_BUS": self.bus.event_bus_name},
        )

    def publish_large(self, *types: type[EventData]) -> Access:
        """May publish events as `publish` says, and leave the data of those that are too large for the bus."""
        publish = self.publish(*types)

        def grant(grantee: iam.IGrantable) -> None:
            publish.grant(grantee)
            self._grant_claiming(grantee)

        return Access(grant, {**publish.variables, "OFFLOAD_CLAIMS_BUCKET": self.claims.bucket_name})

    def _grant_claiming(self, grantee: iam.IGrantable) -> None:
        iam.Grant.add_to_principal(
            grantee=grantee, actions=["s3:PutObject"], resource_arns=[self.claims.arn_for_objects("claims/*")]
        )
        acknowledge_objects(grantee, self.claims, "claims/*", _CLAIM_KEY)

    @property
    def replay(self) -> Access:
        """May publish archived events again to rules of the bus, in replays of its own, and end those."""
        return Access(
            self._grant_replay,
            {
                "OFFLOAD_ARCHIVE": self.archive.archive_arn,
                "OFFLOAD_ARCHIVED_BUS": self.bus.event_bus_arn,
                "OFFLOAD_ARCHIVE_LATE_MINUTES": str(Environment.of(self).bus.archive_late_minutes),
            },
        )

    def _grant_replay(self, grantee: iam.IGrantable) -> None:
        replays = Stack.of(self).format_arn(service="events", resource="replay", resource_name=_REPLAYS)
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["events:StartReplay"],
            resource_arns=[self.archive.archive_arn, self.bus.event_bus_arn],
        )
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["events:StartReplay", "events:DescribeReplay", "events:CancelReplay"],
            resource_arns=[replays],
        )
        policy = cast("iam.Role", grantee.grant_principal).node.find_child("DefaultPolicy")
        stack = Stack.of(self)
        named = ":".join(
            (
                "arn",
                as_cdk_nag_writes(stack.partition, "AWS::Partition"),
                "events",
                as_cdk_nag_writes(stack.region, "AWS::Region"),
                as_cdk_nag_writes(stack.account, "AWS::AccountId"),
                f"replay/{_REPLAYS}",
            )
        )
        acknowledge(
            policy,
            f"AwsSolutions::AwsSolutions-IAM5[Resource::{named}]",
            "A replay is named after the job that needs it: known at run time.",
        )

    def grant_read_claims(self, grantee: iam.IGrantable) -> iam.Grant:
        """Allows to fetch the data that claim checks stand for, and to hear that they are gone."""
        allow_to_miss(grantee, self.claims)
        grant = iam.Grant.add_to_principal(
            grantee=grantee, actions=["s3:GetObject"], resource_arns=[self.claims.arn_for_objects("claims/*")]
        )
        acknowledge_objects(grantee, self.claims, "claims/*", _CLAIM_KEY)
        return grant
