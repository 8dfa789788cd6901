"""AWS's JSON services in one small client, for functions whose cold start somebody waits for.

Importing botocore and making two of its clients costs several times what the rest of a webhook's receiver does
(docs/performance.md, "Cold starts"). This one signs with Signature Version 4 (docs.aws.amazon.com/IAM,
reference_sigv-create-signed-request.html), speaks AWS JSON 1.0 and 1.1 over one kept connection a service, and knows
nothing of any service but its address. Everything else uses botocore (`offload.runtime.aws`).
"""

from __future__ import annotations

import hmac
import http.client
import os
import ssl
import time
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from offload.contracts.backoff import equal_jitter

_ATTEMPTS: Final = 3
_PAUSE: Final = 0.05  # seconds before the second attempt
_LONGEST_PAUSE: Final = 0.1  # seconds before the third
# Below it no answer can be hoped for.
_SHORTEST: Final = 0.05
_THROTTLED: Final = frozenset(
    {
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)


# Where the Regions of a partition are; all others are below amazonaws.com (botocore's partitions.json, 2026-11-29).
_SUFFIXES: Final = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "eu-isoe-": "cloud.adc-e.uk",
    "us-isof-": "csp.hci.ic.gov",
}
_VARIANTS: Final = ("AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT")


class UnsupportedEndpoint(Exception):
    """The environment asks for FIPS or dual-stack endpoints, of which this client knows none."""


class AwsRefused(Exception):
    """The service answered with an error: its `code`, and `document`, the answer's JSON.

    What answers with another status than 200 and with no JSON (a redirect, a proxy) is refused by its status.
    """

    def __init__(self, service: str, action: str, status: int, document: dict[str, Any], to: str = "") -> None:
        self.code = str(document.get("__type", "")).rpartition("#")[2] or f"status {status}{f' to {to}' if to else ''}"
        self.status = status
        self.document = document
        super().__init__(f"{service}:{action}: {self.code}: {document.get('message') or document.get('Message') or ''}")


class AwsUnreachable(Exception):
    """There was no answer in time, or none that could be read; whether the service acted is not known."""


@dataclass
class Service:
    """One service: its name in addresses and signatures, the variable that may name its address, its protocol."""

    name: str
    variable: str
    target: str
    version: str
    _connection: http.client.HTTPConnection | None = field(default=None, init=False)

    def call(self, action: str, request: dict[str, Any], *, within: float) -> dict[str, Any]:
        """The answer to `action`, within so many seconds in all.

        It is tried three times where another attempt may help, so it has to be one that can be repeated. Raises
        AwsRefused and AwsUnreachable.
        """
        until = time.monotonic() + within
        body = msgspec.json.encode(request)
        for attempt in range(1, _ATTEMPTS + 1):
            left = until - time.monotonic()
            try:
                return self._once(action, body, max(left, _SHORTEST))
            except (AwsRefused, AwsUnreachable) as error:
                pause = equal_jitter(attempt, base=_PAUSE, cap=_LONGEST_PAUSE)
                hopeless = isinstance(error, AwsRefused) and error.status < 500 and error.code not in _THROTTLED
                if hopeless or attempt == _ATTEMPTS or until - time.monotonic() < pause + _SHORTEST:
                    raise
                time.sleep(pause)
        raise AssertionError  # the last attempt returns or raises

    def _once(self, action: str, body: bytes, within: float) -> dict[str, Any]:
        kept, self._connection = self._connection, None
        connection = kept or self._connect()
        headers = self._signed(f"{self.target}.{action}", body)
        connection.timeout = within
        try:
            if connection.sock is not None:
                connection.sock.settimeout(within)
            try:
                connection.request("POST", "/", body, headers)
                answer = connection.getresponse()
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # A connection that was kept may have been closed meanwhile; what was sent on it is sent anew.
                if kept is None:
                    raise
                connection.close()
                connection.request("POST", "/", body, headers)
                answer = connection.getresponse()
            content = answer.read()
            document = _document(content, answer.status)
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            connection.close()
            raise AwsUnreachable(f"{self.name}:{action}: no answer: {error or type(error).__name__}") from error
        self._connection = connection
        if answer.status != 200:
            to = ascii(answer.headers["location"].partition("?")[0]) if "location" in answer.headers else ""
            raise AwsRefused(self.name, action, answer.status, document, to)
        return document

    def _endpoint(self) -> str:
        own = os.environ.get(f"AWS_ENDPOINT_URL_{self.variable}") or os.environ.get("AWS_ENDPOINT_URL")
        if own:
            return own
        for variant in _VARIANTS:
            if os.environ.get(variant, "").lower() == "true":
                raise UnsupportedEndpoint(f"{variant}: name the endpoint in AWS_ENDPOINT_URL_{self.variable} instead")
        region = os.environ["AWS_REGION"]
        suffix = next((each for prefix, each in _SUFFIXES.items() if region.startswith(prefix)), "amazonaws.com")
        return f"https://{self.name}.{region}.{suffix}"

    def _connect(self) -> http.client.HTTPConnection:
        address = urlsplit(self._endpoint())
        host = address.hostname or ""
        if address.scheme == "http":
            return http.client.HTTPConnection(host, address.port)
        return http.client.HTTPSConnection(host, address.port, context=_tls())

    def _signed(self, target: str, body: bytes) -> dict[str, str]:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        region, date = os.environ["AWS_REGION"], moment[:8]
        headers = {
            "content-type": f"application/x-amz-json-{self.version}",
            "host": urlsplit(self._endpoint()).netloc,
            "x-amz-date": moment,
            "x-amz-target": target,
        }
        if token := os.environ.get("AWS_SESSION_TOKEN"):
            headers["x-amz-security-token"] = token
        names = sorted(headers)
        lines = [f"{name}:{headers[name]}" for name in names]
        canonical = "\n".join(["POST", "/", "", *lines, "", ";".join(names), sha256(body).hexdigest()])
        scope = f"{date}/{region}/{self.name}/aws4_request"
        content = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{os.environ['AWS_SECRET_ACCESS_KEY']}".encode()
        for part in (date, region, self.name, "aws4_request", content):
            key = hmac.digest(key, part.encode(), "sha256")
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={key.hex()}"
        )
        return headers


def _document(content: bytes, status: int) -> dict[str, Any]:
    """An answer's JSON; raises DecodeError for a 200 that has none."""
    if not content:
        return {}
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError:
        if status == 200:
            raise
        return {}


_contexts: list[ssl.SSLContext] = []


def _tls() -> ssl.SSLContext:
    """One for all services: reading the certificates takes longer than a call."""
    if not _contexts:
        _contexts.append(ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE")))
    return _contexts[0]


def services() -> tuple[Service, Service, Service]:
    """DynamoDB, EventBridge and Secrets Manager, each with a connection of its own."""
    return (
        Service("dynamodb", "DYNAMODB", "DynamoDB_20120810", "1.0"),
        Service("events", "EVENTBRIDGE", "AWSEvents", "1.1"),
        Service("secretsmanager", "SECRETS_MANAGER", "secretsmanager", "1.1"),
    )
