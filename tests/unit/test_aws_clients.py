"""The functions' clients ask the same as those that botocore makes by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.awsrequest
import botocore.session
import pytest

from offload.runtime import aws

CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "dynamodb": ("get_item", {"TableName": "t", "Key": {"pk": {"S": "1"}}}),
    "events": ("put_events", {"Entries": []}),
    "lambda": ("invoke", {"FunctionName": "f"}),
    "s3": ("get_object", {"Bucket": "a-bucket", "Key": "k"}),
    "secretsmanager": ("get_secret_value", {"SecretId": "s"}),
    "sqs": ("send_message", {"QueueUrl": "https://sqs.example/1/q", "MessageBody": "m"}),
    "ssm": ("get_parameter", {"Name": "n"}),
}


class _Seen(Exception):
    """Carries a request that was about to be sent."""

    def __init__(self, request: botocore.awsrequest.AWSPreparedRequest) -> None:
        super().__init__()
        self.request = request


def asked(client: Any, service: str) -> tuple[str, str, str]:
    """The host and path that a call goes to, and the scope of its signature."""

    def hold(request: botocore.awsrequest.AWSPreparedRequest, **_: object) -> None:
        raise _Seen(request)

    client.meta.events.register_first("before-send", hold)
    call, arguments = CALLS[service]
    with pytest.raises(_Seen) as seen:
        getattr(client, call)(**arguments)
    request = seen.value.request
    signed = request.headers["Authorization"]
    scope = re.search(r"Credential=\w+/\d{8}/(\S+),", signed if isinstance(signed, str) else signed.decode())
    address = urlsplit(str(request.url))
    return address.netloc, address.path, scope[1] if scope else ""


def presigned(client: Any) -> str:
    """The address of an upload, without what depends on the time."""
    url: str = client.generate_presigned_url("put_object", CALLS["s3"][1])
    return re.sub(r"(Date|Signature|Expires)=[^&]+", "", url)


@pytest.fixture(scope="module", autouse=True)
def _new_session() -> Iterator[None]:
    """A session keeps the credentials that it found first: those of the embedded AWS, after tests of another module."""
    aws._session.cache_clear()
    yield
    aws._session.cache_clear()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody's, and no clients from before."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    aws._client.cache_clear()
    yield
    aws._client.cache_clear()


@pytest.mark.parametrize("service", CALLS)
@pytest.mark.parametrize(
    ("region", "variables"),
    [
        ("us-east-1", {}),
        ("eu-central-1", {}),
        ("us-gov-west-1", {}),
        ("cn-north-1", {}),
        ("us-west-2", {"AWS_USE_FIPS_ENDPOINT": "true"}),
        ("eu-west-1", {"AWS_USE_DUALSTACK_ENDPOINT": "true"}),
        ("xx-future-1", {}),
    ],
)
@pytest.mark.usefixtures("credentials")
def test_a_client_asks_where_botocores_own_would_and_signs_for_the_same(
    service: str, region: str, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, **variables}.items():
        monkeypatch.setenv(name, value)
    plain: Any = botocore.session.get_session().create_client(service, config=aws._CONFIG)
    ours = aws._client(service)
    for client in (plain, ours):
        assert client.meta.region_name == region
    assert (ours.meta.endpoint_url, ours.meta.partition) == (plain.meta.endpoint_url, plain.meta.partition)
    if service == "s3":
        assert presigned(ours) == presigned(plain)
    assert asked(ours, service) == asked(plain, service)


def test_every_client_that_a_function_can_ask_for_is_known() -> None:
    assert set(CALLS) == set(aws._SERVICES)
