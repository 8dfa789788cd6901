"""A Lambda function in Python, from a folder under lambdas/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from aws_cdk import AssetHashType, Duration, RemovalPolicy, Stack
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import Construct, IConstruct

from offload.cdk.bundling import Bundler, Target, modules_named_by
from offload.cdk.bundling.archive import archive_of
from offload.cdk.bundling.target import HOST
from offload.cdk.constructs.acknowledge import acknowledge
from offload.cdk.constructs.encryption import encrypt
from offload.cdk.environment import Environment
from offload.contracts.functions import handler_of
from offload.project import PROJECT

ROOT_CONTEXT = "offload:root"
"""Context key: another project's root (its `lambdas`, `schemas`, library and bundles) in place of this one's."""

# What a function is declared as where it is bundled for the machine at hand: the embedded AWS runs its own Python
# whatever the template says, and the template stays the same on every machine.
_DECLARED_PYTHON = "3.13"
_DECLARED_ARCHITECTURE = "arm64"

_ARCHITECTURES = {"arm64": lambda_.Architecture.ARM_64, "x86_64": lambda_.Architecture.X86_64}
RETENTION = {
    1: logs.RetentionDays.ONE_DAY,
    3: logs.RetentionDays.THREE_DAYS,
    5: logs.RetentionDays.FIVE_DAYS,
    7: logs.RetentionDays.ONE_WEEK,
    14: logs.RetentionDays.TWO_WEEKS,
    30: logs.RetentionDays.ONE_MONTH,
    60: logs.RetentionDays.TWO_MONTHS,
    90: logs.RetentionDays.THREE_MONTHS,
    120: logs.RetentionDays.FOUR_MONTHS,
    150: logs.RetentionDays.FIVE_MONTHS,
    180: logs.RetentionDays.SIX_MONTHS,
    365: logs.RetentionDays.ONE_YEAR,
    400: logs.RetentionDays.THIRTEEN_MONTHS,
    545: logs.RetentionDays.EIGHTEEN_MONTHS,
    731: logs.RetentionDays.TWO_YEARS,
    1096: logs.RetentionDays.THREE_YEARS,
    1827: logs.RetentionDays.FIVE_YEARS,
    2192: logs.RetentionDays.SIX_YEARS,
    2557: logs.RetentionDays.SEVEN_YEARS,
    2922: logs.RetentionDays.EIGHT_YEARS,
    3288: logs.RetentionDays.NINE_YEARS,
    3653: logs.RetentionDays.TEN_YEARS,
}


def root_of(scope: IConstruct) -> Path:
    """The root of the project that the functions above `scope` are of."""
    return Path(scope.node.try_get_context(ROOT_CONTEXT) or PROJECT)


class PythonFunction(Construct):
    """A function, bundled, with a log group and a role of its own.

    `source` is its folder in `lambdas/`; the framework names its own functions by `offload.contracts.functions.own`.

    `timeout` is 10 s unless given; `environment` are variables of the function; `reaches` names library modules that
    import tracing cannot see, beside the one that a variable for the app's catalogue names. Runtime, architecture and
    log retention are the environment's. The role may write to the function's own log group and nothing else: grants are
    added where constructs meet. A `durable` function is called by its `current_version`; versions before it stay.

    Raises BundlingError (one line with folder, file and fix) when the folder cannot be bundled.
    """

    function: lambda_.Function
    log_group: logs.LogGroup
    role: iam.Role

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        source: str,
        timeout: Duration | None = None,
        memory_mb: int = 256,
        environment: Mapping[str, str] | None = None,
        reaches: Sequence[str] = (),
        description: str | None = None,
        durable: lambda_.DurableConfig | None = None,
    ) -> None:
        super().__init__(scope, construct_id)
        settings = Environment.of(self)
        variables = dict(environment or {})
        reaches = (*reaches, *modules_named_by(variables))
        self.log_group = logs.LogGroup(
            self,
            "LogGroup",
            retention=RETENTION[settings.functions.log_retention_days],
        )
        encrypt(self.log_group)
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.log_group.grant_write(self.role)
        python, architecture = settings.functions.python, settings.functions.architecture
        self.function = lambda_.Function(
            self,
            "Function",
            code=self._code(source, Target.of(python, architecture), reaches),
            handler=handler_of(source),
            runtime=lambda_.Runtime(
                f"python{_DECLARED_PYTHON if python == HOST else python}", lambda_.RuntimeFamily.PYTHON
            ),
            architecture=_ARCHITECTURES[_DECLARED_ARCHITECTURE if architecture == HOST else architecture],
            role=self.role,
            log_group=self.log_group,
            timeout=timeout or Duration.seconds(10),
            memory_size=memory_mb,
            environment=variables,
            description=description,
            durable_config=durable,
            current_version_options=lambda_.VersionOptions(removal_policy=RemovalPolicy.RETAIN) if durable else None,
        )
        encrypt(self.function)
        acknowledge(
            self.function,
            "AwsSolutions::AwsSolutions-L1",
            "The environment's file pins the runtime; a newer one is taken by choice.",
        )

    def _code(self, source: str, target: Target, reaches: Sequence[str]) -> lambda_.Code:
        bundler = Bundler(root_of(self))
        if not Stack.of(self).bundling_required:
            return lambda_.Code.from_asset(
                str(bundler.placeholder()), asset_hash="0" * 64, asset_hash_type=AssetHashType.CUSTOM
            )
        bundle = bundler.bundle(source, target, reaches=reaches)
        archive = archive_of(bundle.path)
        return lambda_.Code.from_asset(str(archive), asset_hash=bundle.hash, asset_hash_type=AssetHashType.CUSTOM)
