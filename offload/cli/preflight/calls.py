"""Every call to AWS that the preflight makes, the IAM policy that allows them, and the one way to make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from offload.cli.deployment.failure import Failure
from offload.cli.preflight.item import Untold

if TYPE_CHECKING:
    from offload.cli.deployment.aws import Aws

NO_FUNCTION = "offload-preflight-no-such-function"
"""A function that nobody has: asking for its durable executions tells whether Lambda knows the question here."""

_STACKS = "arn:{partition}:cloudformation:{region}:{account}:stack/offload-{environment}-*/*"


@dataclass(frozen=True)
class Call:
    """One operation of AWS's API (`service` as botocore names it), and the permission that it needs.

    `resources` are ARNs with the places {partition}, {region}, {account} and {environment}; "*" where IAM knows no
    resource for the action (service authorization reference, read 2026-11-29).
    """

    service: str
    operation: str
    action: str
    resources: tuple[str, ...] = ("*",)


CALLS: tuple[Call, ...] = (
    Call("sts", "GetCallerIdentity", "sts:GetCallerIdentity"),
    Call("cloudformation", "DescribeAccountLimits", "cloudformation:DescribeAccountLimits"),
    Call("cloudformation", "DescribeStacks", "cloudformation:DescribeStacks", (_STACKS,)),
    Call("cloudformation", "DescribeType", "cloudformation:DescribeType"),
    Call("cloudformation", "GetTemplate", "cloudformation:GetTemplate", (_STACKS,)),
    Call("cloudformation", "ListStackResources", "cloudformation:ListStackResources", (_STACKS,)),
    Call("cloudformation", "ListStacks", "cloudformation:ListStacks"),
    Call("events", "ListEventBuses", "events:ListEventBuses"),
    Call("lambda", "GetAccountSettings", "lambda:GetAccountSettings"),
    Call(
        "lambda",
        "ListDurableExecutionsByFunction",
        "lambda:ListDurableExecutionsByFunction",
        (
            f"arn:{{partition}}:lambda:{{region}}:{{account}}:function:{NO_FUNCTION}",
            f"arn:{{partition}}:lambda:{{region}}:{{account}}:function:{NO_FUNCTION}:*",
        ),
    ),
    Call("logs", "DescribeLogGroups", "logs:DescribeLogGroups"),
    Call("logs", "DescribeResourcePolicies", "logs:DescribeResourcePolicies"),
    Call("resourcegroupstaggingapi", "GetResources", "tag:GetResources"),
    Call(
        "sns",
        "ListSubscriptionsByTopic",
        "sns:ListSubscriptionsByTopic",
        ("arn:{partition}:sns:{region}:{account}:offload-{environment}-*",),
    ),
    Call("ssm", "DescribeParameters", "ssm:DescribeParameters"),
    Call(
        "ssm",
        "GetParameter",
        "ssm:GetParameter",
        ("arn:{partition}:ssm:{region}:{account}:parameter/cdk-bootstrap/*",),
    ),
)
"""All of them. Each reads, none changes anything; `Reader` makes no other."""

_BY_NAME: Mapping[tuple[str, str], Call] = {(call.service, call.operation): call for call in CALLS}

# How the services say it (each API reference's "Common Errors", read 2026-11-29; SNS has a code of its own).
_DENIED = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "NotAuthorized"}
)
_UNSUPPORTED = frozenset({"InvalidAction", "UnknownOperation", "UnknownOperationException", "400", "404", "501"})
_NOT_THERE = frozenset(
    {
        "ParameterNotFound",
        "ResourceNotFoundException",
        "NotFound",
        "NotFoundException",
        "TypeNotFoundException",
        "TypeNotFound",
    }
)
_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
        "SignatureDoesNotMatch",
        "InvalidSignatureException",
        "AuthFailure",
    }
)


def policy(environment: str, *, account: str | None, region: str | None) -> dict[str, Any]:
    """The IAM policy that allows every call of `CALLS`, and nothing else.

    `account` and `region` are the environment's; None allows the calls in any.
    """
    places = {
        "partition": _partition(region),
        "region": region or "*",
        "account": account or "*",
        "environment": environment,
    }
    by_resources: dict[tuple[str, ...], list[str]] = {}
    for call in CALLS:
        by_resources.setdefault(tuple(each.format(**places) for each in call.resources), []).append(call.action)
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": sorted(actions),
                "Resource": resources[0] if len(resources) == 1 else list(resources),
            }
            for resources, actions in by_resources.items()
        ],
    }


class Reader:
    """Asks AWS the questions of `CALLS`, and refuses to ask any other."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._clients: dict[str, Any] = {}

    @property
    def region(self) -> str:
        """The Region that is asked."""
        return str(self._aws.session.region_name)

    def prepare(self) -> None:
        """Makes the clients, which is not safe to do in several threads at once."""
        for service in sorted({call.service for call in CALLS}):
            if service not in self._clients:
                self._clients[service] = self._aws.client(service)

    def ask(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any] | Untold | None:
        """The answer; None for a thing that is not there, Untold where there is no answer.

        Raises Failure when AWS takes the credentials for invalid or expired, and botocore's NoCredentialsError.
        """
        from botocore import xform_name
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, TokenRetrievalError

        call = _BY_NAME[service, operation]
        self.prepare()
        try:
            answer: Mapping[str, Any] = getattr(self._clients[service], xform_name(operation))(**parameters)
        except ClientError as error:
            return _of(call, error.response["Error"])
        except (NoCredentialsError, TokenRetrievalError):
            raise
        except BotoCoreError as error:
            return Untold("failed", call.action, str(error))
        return answer

    def ask_all(self, service: str, operation: str, key: str, **parameters: Any) -> list[Any] | Untold | None:
        """The same of an operation that answers page by page: what all pages have under `key`."""
        token_of = {
            "resourcegroupstaggingapi": ("PaginationToken", "PaginationToken"),
            "logs": ("nextToken", "nextToken"),
        }
        given, taken = token_of.get(service, ("NextToken", "NextToken"))
        found: list[Any] = []
        more: dict[str, Any] = {}
        while True:
            page = self.ask(service, operation, **parameters, **more)
            if page is None or isinstance(page, Untold):
                return page
            found += page.get(key, [])
            if not page.get(given):
                return found
            more = {taken: page[given]}


def _of(call: Call, error: Mapping[str, Any]) -> Untold | None:
    """What a refused call means."""
    code, says = str(error.get("Code", "")), str(error.get("Message", ""))
    if code in _NOT_THERE or (code == "ValidationError" and "does not exist" in says):
        return None
    if code in _CREDENTIALS:
        raise Failure(f"AWS takes the credentials for invalid ({code}): log in again, or set AWS_PROFILE")
    if code in _DENIED:
        return Untold("denied", call.action, says)
    if code in _UNSUPPORTED:
        return Untold("unsupported", call.action, says)
    return Untold("failed", call.action, f"{code}: {says}".strip(": "))


def _partition(region: str | None) -> str:
    if region is None:
        return "aws"
    import botocore.session

    return str(botocore.session.get_session().get_partition_for_region(region))
