"""A third party whose API functions call."""

from __future__ import annotations

import json
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec
from aws_cdk import Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_secretsmanager as secretsmanager
from constructs import Construct, IConstruct

from offload.cdk.access import Access
from offload.cdk.constructs.acknowledge import acknowledge
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.constructs.table import Table
from offload.cdk.environment import Environment
from offload.cdk.refusal import Unusable
from offload.contracts.calls import CREDENTIALS_NOT_SET, CallSettings, is_name, variable_of

_TABLE_ID: Final = "Calls"
# CloudFormation generates a secret anew when what generates it changes: both stay as they are.
_NO_CREDENTIALS: Final = "{}"
# By app: the third parties that it asked for.
_asked: WeakKeyDictionary[IConstruct, set[str]] = WeakKeyDictionary()


class UnusableIntegration(Unusable):
    """What an Integration is told is wrong; one line with its path, the argument and the fix."""


class Integration(Construct):
    """What is agreed with one third party, and what the functions that call it share.

    `third_party` is its name in `Client.from_environment`: lower-case words with hyphens. `per_second` is the rate that
    is allowed, of all functions and invocations together (None: no limit). `secret` makes a secret for its credentials,
    which `Client.secret()` reads; a person puts them in. `secret_path` keeps the path of its URLs out of logs, where
    that is a credential. The others are those of `offload.contracts.calls.CallSettings`.

    Give `call` to each function that calls it: `EventConsumer(…, grants=(rates.call,))`. The first one of a stack makes
    the table in which all of them keep rates and breakers; it costs nothing while nothing is called.

    An environment may do without a third party (`[integrations] unused`): ask `is_used`, and leave out what calls it.

    Raises UnusableIntegration for a name or value that cannot be, and for one that the environment does without.
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        third_party: str,
        per_second: float | None = None,
        attempts: int = 3,
        connect_seconds: float = 3.0,
        read_seconds: float = 10.0,
        total_seconds: float = 20.0,
        longest_body: int = 1024 * 1024,
        breaker_failures: int = 5,
        breaker_seconds: int = 30,
        secret: bool = False,
        secret_path: bool = False,
    ) -> None:
        super().__init__(scope, construct_id)
        if not is_name(third_party):
            raise UnusableIntegration(
                f"{self.node.path}: third_party '{third_party}': write lower-case words with hyphens, as parcel-service"
            )
        if not Integration.is_used(self, third_party):
            raise UnusableIntegration(
                f"{self.node.path}: environments/{Environment.of(self).name}.toml: integrations.unused has "
                f"'{third_party}': take it out there, or leave out what calls it where Integration.is_used is False"
            )
        stack = Stack.of(self)
        found = stack.node.try_find_child(_TABLE_ID)
        self.table = found if isinstance(found, Table) else _table(stack)
        self.secret = self._secret(third_party) if secret else None
        settings: dict[str, Any] = {
            "per_second": per_second,
            "attempts": attempts,
            "connect_seconds": connect_seconds,
            "read_seconds": read_seconds,
            "total_seconds": total_seconds,
            "longest_body": longest_body,
            "breaker_failures": breaker_failures,
            "breaker_seconds": breaker_seconds,
            "secret_path": secret_path,
        }
        try:
            msgspec.convert({"table": "", **settings}, CallSettings)
        except msgspec.ValidationError as error:
            what, _, where = str(error).rpartition(" - at `$.")
            raise UnusableIntegration(f"{self.node.path}: {where.rstrip('`')}: {what}") from error
        settings["table"] = self.table.table_name
        if self.secret is not None:
            settings["secret"] = self.secret.secret_arn
        self.call = Access(
            self._grant,
            {variable_of(third_party): json.dumps(settings), **Environment.of(self).egress.variables()},
        )

    @staticmethod
    def is_used(scope: Construct, third_party: str) -> bool:
        """Whether the environment calls the third party: its file does not have it in `[integrations] unused`."""
        _asked.setdefault(scope.node.root, set()).add(third_party)
        return third_party not in Environment.of(scope).integrations.unused

    @staticmethod
    def check_unused(app: IConstruct) -> None:
        """Raises UnusableIntegration where `[integrations] unused` names a third party that no stack asked for.

        For when every stack is there; a misspelt name would have no effect.
        """
        environment, known = Environment.of(app), _asked.get(app.node.root, set())
        for each in environment.integrations.unused:
            if each not in known:
                raise UnusableIntegration(
                    f"environments/{environment.name}.toml: integrations.unused has '{each}', and the app calls no "
                    f"such third party: write one of {', '.join(sorted(known)) or 'those it will call'}, or take it out"
                )

    def _secret(self, third_party: str) -> secretsmanager.Secret:
        made = secretsmanager.Secret(
            self,
            "Secret",
            description=f"The credentials for {third_party}, put in by: offload integrations credentials {third_party}",
            generate_secret_string=secretsmanager.SecretStringGenerator(
                secret_string_template=_NO_CREDENTIALS, generate_string_key=CREDENTIALS_NOT_SET
            ),
        )
        encrypt(made)
        acknowledge(
            made,
            "AwsSolutions::AwsSolutions-SMG4",
            "The third party gives its credentials out; they are changed there first, and then here, by a person.",
        )
        return made

    def _grant(self, grantee: iam.IGrantable) -> None:
        # Rates: Update. Breakers: Get, Update, and Delete when one closes.
        self.table.allow(grantee, "GetItem", "UpdateItem", "DeleteItem")
        if self.secret is not None:
            iam.Grant.add_to_principal(
                grantee=grantee,
                actions=["secretsmanager:GetSecretValue"],
                resource_arns=[self.secret.secret_arn],
            )


def _table(stack: Stack) -> Table:
    return Table(stack, _TABLE_ID, sort_key=False, time_to_live="expires")
