"""The typed settings of one environment, read from environments/NAME.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from constructs import IConstruct

from offload.cdk import retention
from offload.cdk.refusal import Unusable
from offload.contracts import egress as egress_contract
from offload.contracts.webhooks_out.policy import Policy
from offload.project import PROJECT

FOLDER = PROJECT / "environments"

_CONTEXT_KEY = "offload:environment"

# RFC 2606, sections 2 and 3, and RFC 6761, section 6 (read 2026-11-29). What is below one of them is reserved too.
RESERVED_DOMAINS = ("example.com", "example.net", "example.org", "example", "invalid", "localhost", "test")

_KEY = r"^(own|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+)\Z"
_PRINCIPAL = r"^([a-z0-9.-]+\.amazonaws\.com(\.cn)?|arn:aws[a-z-]*:iam::[0-9]{12}:(role|user)/[\w+=,.@/-]+)\Z"
_ROLE = r"^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+\Z"

OWN_KEY = "own"
"""The `[data] kms_key` of an environment for which the app makes the key."""

Days = Annotated[int, msgspec.Meta(ge=0, le=3653)]
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]


SectionT = TypeVar("SectionT", bound=msgspec.Struct)


class UnusableEnvironment(Unusable):
    """The environment is unset, unknown, or its file is wrong; the message is one line for people."""


# CloudWatch Logs takes only these retentions (AWS::Logs::LogGroup RetentionInDays, read 2026-11-23).
LogRetention = Literal[
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653
]


class Aws(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The AWS account and Region that the environment belongs to; None is whatever the shell's credentials name."""

    account: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{12}\Z")] | None = None
    region: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+\Z")] | None = None


class Functions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How functions are bundled and run."""

    python: Literal["3.11", "3.12", "3.13", "3.14", "host"]
    architecture: Literal["arm64", "x86_64", "host"]
    log_retention_days: LogRetention


class Data(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of data when its stack is deleted, how far back it can be restored, and what encrypts it.

    `kms_key` is the ARN of a customer-managed key, or "own" for one that the app makes; None are AWS's own keys.
    """

    keep: bool
    point_in_time_recovery: bool
    # An alias can be pointed at another key, by which nothing that is there could be read.
    kms_key: (
        Annotated[str, msgspec.Meta(pattern=r"^(own|arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+)\Z")]
        | None
    ) = None


class Bus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The event bus.

    `archive_late_minutes`: how long an event may be on the bus before its archive has it. Of the minutes before now
    nothing is concluded from the archive.
    """

    archive_days: Annotated[int, msgspec.Meta(ge=1, le=3653)]
    # "There may be a delay between an event being received on an event bus and the event arriving in the archive. We
    # recommend you delay replaying archived events for 10 minutes to make sure all events are replayed."
    # (docs.aws.amazon.com/eventbridge/latest/userguide/eb-archive.html, read 2026-11-29)
    archive_late_minutes: Annotated[int, msgspec.Meta(ge=0, le=60)] = 10


class Alarms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where alarms go: one address. Without one an environment has no alarms."""

    email: Annotated[str, msgspec.Meta(pattern=r"^[^@\s]+@[^@\s]+\Z")] | None = None

    def __post_init__(self) -> None:
        reserved = _reserved_domain(self.email) if self.email else None
        if reserved:
            raise ValueError(
                f"email: '{self.email}' is at {reserved}, a domain that is reserved for examples and tests (RFC 2606, "
                "RFC 6761) and takes no mail: give an address that somebody reads"
            )


class Webhooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The door for webhooks.

    `refused_per_minute` is how often a source is refused in a minute before it gets 429 in place of a reason;
    `requests_per_second` and `burst` are what the gateway lets through of everybody together, and half of each, rounded
    up, on each route of a provider.
    """

    refused_per_minute: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    requests_per_second: Annotated[int, msgspec.Meta(ge=1, le=10_000)]
    burst: Annotated[int, msgspec.Meta(ge=1, le=5_000)]


class Egress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where functions may call out to: `private` networks as CIDRs, `schemes`, and `ports` or "any"."""

    private: tuple[str, ...] = ()
    schemes: Annotated[tuple[Literal["http", "https"], ...], msgspec.Meta(min_length=1)] = ("https",)
    ports: Annotated[tuple[Port, ...], msgspec.Meta(min_length=1)] | Literal["any"] = (443,)

    def __post_init__(self) -> None:
        try:
            egress_contract.networks(self.private)
        except egress_contract.UnusableEgress as error:
            raise ValueError(f"private: {error}") from error

    def variables(self) -> Mapping[str, str]:
        """The variables of a function that calls out."""
        return egress_contract.variables(self.private, self.schemes, self.ports)


class Queues(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How Lambda works queues off.

    `concurrency` is "bounded", each queue starts as many invocations as its use case says, or "any", as many as Lambda
    likes, which polls an idle queue less for that. `lanes` is "each", a queue for each priority of a job type and for
    endpoints that are well and those in trouble, or "one", a queue for all of them.
    """

    concurrency: Literal["bounded", "any"] = "bounded"
    lanes: Literal["each", "one"] = "each"


class Integrations(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Third parties that functions call. `unused` are those that the environment does without."""

    unused: tuple[str, ...] = ()


class Sending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Webhooks out.

    `concurrency` is how many senders run at once in each of the two lanes, where `[queues] concurrency` bounds them.
    `destinations` are ARNs of queues and buses of other accounts that subscriptions may
    name; they must let this account's senders in. `policy` is the promise.
    """

    concurrency: Annotated[int, msgspec.Meta(ge=2, le=1000)] = 50
    destinations: tuple[
        Annotated[str, msgspec.Meta(pattern=r"^arn:aws[a-z-]*:(sqs|events):[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_./-]+\Z")],
        ...,
    ] = ()
    policy: Policy = Policy()


class Monolith(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As whom the monolith calls: who assumes the role that the app makes for it, or the role that it has.

    `principal` is an AWS service that starts it (`ecs-tasks.amazonaws.com`) or the ARN of a role or user; `role` is the
    ARN of a role of this account, which gets the permissions. Without either, nothing is made.
    """

    principal: Annotated[str, msgspec.Meta(pattern=_PRINCIPAL)] | None = None
    role: Annotated[str, msgspec.Meta(pattern=_ROLE)] | None = None

    def __post_init__(self) -> None:
        if self.principal and self.role:
            raise ValueError("principal, role: name one: who assumes a new role, or the role that there is")


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    functions: Functions
    data: Data
    bus: Bus
    webhooks: Webhooks
    egress: Egress = Egress()
    queues: Queues = Queues()
    integrations: Integrations = Integrations()
    sending: Sending = Sending()
    alarms: Alarms = Alarms()
    aws: Aws = Aws()
    monolith: Monolith = Monolith()
    app: dict[str, Any] = {}

    def __post_init__(self) -> None:
        key, region = self.data.kms_key, self.aws.region
        if key and key != OWN_KEY and region and key.split(":")[3] != region:
            raise ValueError(f"data.kms_key: the key is in {key.split(':')[3]}, and the environment in {region}")
        role, account = self.monolith.role, self.aws.account
        if role and account and role.split(":")[4] != account:
            raise ValueError(
                f"monolith.role: the role is in {role.split(':')[4]}, and the environment in {account}: "
                "name it as the principal, and the app makes a role that it assumes"
            )


class Environment(msgspec.Struct, frozen=True):
    """One deployed copy of the app and everything that differs between the copies.

    `functions.python` and `functions.architecture` may be "host": the machine that synthesizes, for the embedded AWS.
    """

    name: str
    functions: Functions
    data: Data
    bus: Bus
    webhooks: Webhooks
    egress: Egress
    queues: Queues
    integrations: Integrations
    sending: Sending
    alarms: Alarms
    aws: Aws
    monolith: Monolith = Monolith()
    app: dict[str, Any] = {}

    @staticmethod
    def names(folder: Path = FOLDER) -> list[str]:
        """The environments that have a file."""
        return sorted(path.stem for path in folder.glob("*.toml"))

    @staticmethod
    def load(name: str | None, folder: Path = FOLDER) -> Environment:
        """Reads `folder/NAME.toml`.

        Raises UnusableEnvironment with one line that names the file and the key: no name, no such file, not TOML,
        a missing or unknown key, a wrong type, a value out of bounds.
        """
        known = ", ".join(Environment.names(folder))
        if not name:
            raise UnusableEnvironment(f"no environment: say which one with -c environment=NAME (one of {known})")
        path = folder / f"{name}.toml"
        if name not in Environment.names(folder):
            raise UnusableEnvironment(
                f"no environment '{name}': {folder.name}/{path.name} does not exist (known: {known})"
            )
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
            settings = msgspec.convert(content, _Settings)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise UnusableEnvironment(f"{folder.name}/{path.name}: {_said_plainly(str(error))}") from error
        return Environment(
            name,
            settings.functions,
            settings.data,
            settings.bus,
            settings.webhooks,
            settings.egress,
            settings.queues,
            settings.integrations,
            settings.sending,
            settings.alarms,
            settings.aws,
            settings.monolith,
            settings.app,
        )

    @staticmethod
    def filled_in(name: str, folder: Path = FOLDER) -> Environment:
        """Reads a file as `load` does and fills in what it leaves open, for checks of its templates.

        `prod` gets an account and a Region, `staging` and `prod` an address for alarms; a value in the file stays.
        """
        environment = Environment.load(name, folder)
        if name not in ("staging", "prod"):
            return environment
        aws = environment.aws
        if environment.data.keep:
            aws = Aws(account=aws.account or "123456789012", region=aws.region or "eu-west-1")
        email = environment.alarms.email or "operators@offload-app.net"
        return msgspec.structs.replace(environment, aws=aws, alarms=Alarms(email=email))

    def section(self, name: str, kind: type[SectionT]) -> SectionT:
        """The app's own settings `[app.NAME]`, as a Struct of the app's.

        Raises UnusableEnvironment with one line that names the file and the key.
        """
        file, key = f"environments/{self.name}.toml", f"app.{name}"
        if name not in self.app:
            raise UnusableEnvironment(f"{file}: `{key}` is missing")
        try:
            return msgspec.convert(self.app[name], kind)
        except msgspec.ValidationError as error:
            what, separator, where = str(error).rpartition(" - at ")
            path = where.strip("`").removeprefix("$") if separator else ""
            raise UnusableEnvironment(f"{file}: {key}{path}: {what or error}") from error

    def missing(self) -> list[str]:
        """What the environment's file must say before the environment is deployed, one line a key; empty when complete.

        An environment that keeps data belongs to one account and Region, and has somebody who is told of its alarms.
        """
        if not self.data.keep:
            return []
        needed = {
            "aws.account": (self.aws.account, "the 12 digits of the account that it belongs to"),
            "aws.region": (self.aws.region, "the Region that it belongs to, such as eu-west-1"),
            "alarms.email": (self.alarms.email, "the address that its alarms go to"),
        }
        return [
            f"environments/{self.name}.toml: {key}: it keeps data (data.keep) and needs {what}"
            for key, (value, what) in needed.items()
            if value is None
        ]

    def attach(self, root: IConstruct) -> None:
        """Makes this the environment of everything below `root` (an App, before anything is added to it).

        What holds data below `root` is kept or goes with its stack, as the environment says.
        """
        root.node.set_context(_CONTEXT_KEY, msgspec.json.encode(self).decode())
        retention.decide(root, keep=self.data.keep)

    @staticmethod
    def of(scope: IConstruct) -> Environment:
        """The environment that was attached above `scope`; raises UnusableEnvironment when none was."""
        attached: Any = scope.node.try_get_context(_CONTEXT_KEY)
        if attached is None:
            raise UnusableEnvironment(
                f"{scope.node.path}: no environment was attached to the app (Environment.load(…).attach(app))"
            )
        return msgspec.json.decode(attached, type=Environment)


def _reserved_domain(address: str) -> str | None:
    """The reserved domain that an address is at or below; None when it can take mail."""
    domain = address.rpartition("@")[2].lower().rstrip(".")
    return next((each for each in RESERVED_DOMAINS if f".{domain}".endswith(f".{each}")), None)


def _said_plainly(message: str) -> str:
    """Msgspec's `Expected `int`, got `str` - at `$.bus.archive_days`` with the key in front."""
    what, separator, where = message.rpartition(" - at ")
    return f"{where.strip('`').removeprefix('$.')}: {what}" if separator else message
