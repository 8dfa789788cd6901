"""What the monolith may do: publish, leave large data, submit jobs, manage subscriptions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from aws_cdk import CfnOutput, CfnResource, Stack
from aws_cdk import aws_apigatewayv2 as api
from aws_cdk import aws_iam as iam
from constructs import Construct, IConstruct

from offload.cdk.constructs.acknowledge import acknowledge, as_cdk_nag_writes
from offload.cdk.constructs.event_bus import EventBus, grant_put_events, sources_of
from offload.cdk.constructs.job_service import JobService
from offload.cdk.environment import Monolith
from offload.cdk.patterns.webhook_sender import WebhookSender
from offload.cdk.refusal import Unusable
from offload.contracts.events.event import EventData
from offload.contracts.http_api import Route
from offload.contracts.jobs.api import ROUTES as JOB_ROUTES
from offload.contracts.webhooks_out.api import ROUTES as SUBSCRIPTION_ROUTES

JOBS: Final = ("submit", "submit_bulk", "upload", "page", "show", "result", "cancel", "job_types")
"""The routes of the job service that the monolith may call; the others are an operator's."""
SUBSCRIPTIONS: Final = (
    "create",
    "page",
    "show",
    "change",
    "delete",
    "pause",
    "resume",
    "rotate",
    "test",
    "event_types",
    "deliveries",
    "delivery",
    "resend",
)
"""The routes of the API of subscriptions that the monolith may call; the others are an operator's."""
_STAGE = "$default"
# Of a service that acts for many accounts; EC2 and EKS start only what is in their own (IAM User Guide, "The confused
# deputy problem"; ECS Developer Guide, "Amazon ECS task IAM role", read 2026-11-29).
_ACTS_FOR_MANY = frozenset({"ecs-tasks.amazonaws.com"})
_PODS = "pods.eks.amazonaws.com"


class UnusableMonolith(Unusable):
    """What a MonolithAccess is told is wrong; one line with its path, the argument and what to do."""


class MonolithAccess(Construct):
    """A role that the monolith assumes, or a managed policy on the role that it has: these permissions, nothing else.

    `monolith` says which, from the environment's file: nothing is made where it names neither. Each permission is asked
    for by what it is on:

    - `bus` with `publishes`: may publish events of the sources of these types;
    - `claims`: may leave the data of those that are too large for the bus;
    - `jobs`: may submit jobs, and read and cancel them. Files go up and down by the URLs that the service signs;
    - `subscriptions`: may manage the subscriptions of its tenants, and read and send their deliveries.

    Raises UnusableMonolith when nothing is permitted, or `publishes` and `claims` have no bus.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        monolith: Monolith,
        bus: EventBus | None = None,
        publishes: Sequence[type[EventData]] = (),
        claims: bool = False,
        jobs: JobService | None = None,
        subscriptions: WebhookSender | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        if (publishes or claims) and bus is None:
            raise UnusableMonolith(f"{self.node.path}: publishes, claims: say to which bus: bus=platform.bus")
        if not (publishes or claims or jobs or subscriptions):
            raise UnusableMonolith(f"{self.node.path}: nothing is permitted: name publishes, claims, jobs, …")
        self.role: iam.Role | None = None
        self.policy: iam.ManagedPolicy | None = None
        self._reasons: dict[str, str] = {}
        statements = []
        if bus is not None and claims:
            statements.append(self._put_claims(bus))
        if jobs is not None:
            statements.append(self._call(jobs.http_api, JOB_ROUTES, JOBS))
        if subscriptions is not None:
            statements.append(self._call(subscriptions.http_api, SUBSCRIPTION_ROUTES, SUBSCRIPTIONS))
        if monolith.principal:
            self._make_role(monolith.principal, statements)
        elif monolith.role:
            self._make_policy(monolith.role, statements)
        if bus is not None and publishes and (grantee := self.role or self.policy):
            grant_put_events(grantee, bus.bus.event_bus_arn, sources_of(publishes))
        for holder in (self.role and self.role.node.find_child("DefaultPolicy"), self.policy):
            if holder is not None:
                self._acknowledge(holder)

    def _make_role(self, principal: str, statements: Sequence[iam.PolicyStatement]) -> None:
        self.role = iam.Role(
            self, "Role", assumed_by=self._trusted(principal), description="What the monolith may do with Offload"
        )
        for statement in statements:
            self.role.add_to_principal_policy(statement)
        if principal == "ec2.amazonaws.com":
            profile = iam.InstanceProfile(self, "InstanceProfile", role=self.role)
            CfnOutput(self, "InstanceProfileName", value=profile.instance_profile_name)
        CfnOutput(self, "RoleArn", value=self.role.role_arn, description="The role that the monolith assumes")

    def _make_policy(self, role: str, statements: Sequence[iam.PolicyStatement]) -> None:
        self.policy = iam.ManagedPolicy(
            self,
            "Policy",
            description="What the monolith may do with Offload",
            statements=list(statements),
            roles=[iam.Role.from_role_name(self, "ExistingRole", role.rpartition("/")[2])],
        )
        CfnOutput(self, "PolicyArn", value=self.policy.managed_policy_arn, description=f"On the role {role}")

    def _trusted(self, principal: str) -> iam.IPrincipal:
        if principal.startswith("arn:"):
            return iam.ArnPrincipal(principal)
        if principal == _PODS:
            return iam.ServicePrincipal(principal).with_session_tags()
        here = {"StringEquals": {"aws:SourceAccount": Stack.of(self).account}}
        return iam.ServicePrincipal(principal, conditions=here if principal in _ACTS_FOR_MANY else None)

    def _put_claims(self, bus: EventBus) -> iam.PolicyStatement:
        bucket = bus.claims
        resource = Stack.of(bucket).get_logical_id(cast("CfnResource", bucket.node.default_child))
        self._reasons[f"<{resource}.Arn>/claims/*"] = "A claim's key is the hash of its data: known at run time."
        return iam.PolicyStatement(actions=["s3:PutObject"], resources=[bucket.arn_for_objects("claims/*")])

    def _call(self, http_api: api.HttpApi, routes: Mapping[str, Route], names: Sequence[str]) -> iam.PolicyStatement:
        stack = Stack.of(http_api)
        resource = stack.get_logical_id(cast("CfnResource", http_api.node.default_child))
        partition = as_cdk_nag_writes(stack.partition, "AWS::Partition")
        region = as_cdk_nag_writes(stack.region, "AWS::Region")
        account = as_cdk_nag_writes(stack.account, "AWS::AccountId")
        here = f"{partition}:execute-api:{region}:{account}"
        arns = []
        for name in names:
            route = routes[name]
            place = f"{_STAGE}/{route.method}{_any_parameter(route.path)}"
            arns.append(stack.format_arn(service="execute-api", resource=http_api.api_id, resource_name=place))
            if "*" in place:
                named = f"arn:{here}:<{resource}>/{place}"
                self._reasons[named] = "The path has the id of a job, a subscription or a delivery."
        return iam.PolicyStatement(actions=["execute-api:Invoke"], resources=arns)

    def _acknowledge(self, policy: IConstruct) -> None:
        for resource, reason in self._reasons.items():
            acknowledge(policy, f"AwsSolutions::AwsSolutions-IAM5[Resource::{resource}]", reason)


def _any_parameter(path: str) -> str:
    """`/jobs/{id}/result` as IAM matches it: `/jobs/*/result`."""
    return "/".join("*" if part.startswith("{") else part for part in path.split("/"))
