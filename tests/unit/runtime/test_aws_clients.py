"""The functions' clients ask as botocore's own would, and S3 as AWS's documents say; so do our other clients."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import botocore.awsrequest
import botocore.session
import pytest

from offload.cli.deployment.aws import Aws
from offload.client.publisher import Publisher
from offload.runtime import aws
from tests.presigned import Presigned, read

BUCKET: Final = "a-bucket"
SECRET: Final = "secret"
CALLS: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "dynamodb": ("get_item", {"TableName": "t", "Key": {"pk": {"S": "1"}}}),
    "events": ("put_events", {"Entries": []}),
    "lambda": ("invoke", {"FunctionName": "f"}),
    "s3": ("get_object", {"Bucket": BUCKET, "Key": "k"}),
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


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Somebody's, and no clients from before; a session keeps the credentials that it found first."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    aws._client.cache_clear()
    aws._session.cache_clear()
    yield
    aws._client.cache_clear()
    aws._session.cache_clear()


@pytest.mark.parametrize("service", sorted(set(CALLS) - {"s3"}))
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
    assert asked(ours, service) == asked(plain, service)


def test_every_client_that_a_function_can_ask_for_is_known() -> None:
    assert set(CALLS) == set(aws._SERVICES)


# -- S3: docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html, read 2026-11-29. The hosts are written out:
# what botocore does by default is not the measure, but what was wrong.

HOSTS: Final = {
    "us-east-1": "s3.us-east-1.amazonaws.com",
    "eu-west-1": "s3.eu-west-1.amazonaws.com",
    "eu-central-1": "s3.eu-central-1.amazonaws.com",
    "ap-southeast-5": "s3.ap-southeast-5.amazonaws.com",
    "mx-central-1": "s3.mx-central-1.amazonaws.com",
    "me-south-1": "s3.me-south-1.amazonaws.com",
    "us-gov-west-1": "s3.us-gov-west-1.amazonaws.com",
    "cn-north-1": "s3.cn-north-1.amazonaws.com.cn",
    "xx-future-1": "s3.xx-future-1.amazonaws.com",
}
"""Regions from before 2014 (which botocore presigns for with Version 2), from after, opt-in ones, other partitions."""


def presigned(method: str, bucket: str, key: str = "uploads/1/é day.csv") -> Presigned:
    """What `aws.s3()` presigns, read as S3 reads it."""
    operation = {"GET": "get_object", "PUT": "put_object"}[method]
    url = aws.s3().generate_presigned_url(operation, Params={"Bucket": bucket, "Key": key}, ExpiresIn=900)
    return read(method, url, SECRET)


def test_a_presigned_url_is_checked_as_in_awss_own_example() -> None:
    url = (
        "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential="
        "AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires="
        "86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
        "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    )
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert read("GET", url, secret).signature_fits
    assert not read("PUT", url, secret).signature_fits
    assert not read("GET", url.replace("examplebucket.s3.", "examplebucket.s3.us-east-1."), secret).signature_fits


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("region", HOSTS)
@pytest.mark.usefixtures("credentials")
def test_a_url_is_presigned_for_the_buckets_regional_host_with_version_4(
    method: str, region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a/token+of=a role")
    found = presigned(method, BUCKET)
    assert found == Presigned(
        host=f"{BUCKET}.{HOSTS[region]}",
        path="/uploads/1/é day.csv",
        region=region,
        service="s3",
        key_id="AKIDEXAMPLE",
        token="a/token+of=a role",
        expires=900,
        signature_fits=True,
    )


@pytest.mark.parametrize("region", HOSTS)
@pytest.mark.usefixtures("credentials")
def test_a_call_to_s3_goes_to_the_host_that_a_presigned_url_names(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    assert asked(aws.s3(), "s3") == (f"{BUCKET}.{HOSTS[region]}", "/k", f"{region}/s3/aws4_request")


@pytest.mark.parametrize("region", ["us-east-1", "eu-west-1", "mx-central-1"])
@pytest.mark.usefixtures("credentials")
def test_a_bucket_with_dots_is_in_the_path_since_no_certificate_has_its_host(
    region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", region)
    found = presigned("PUT", "jobs.shop.example")
    assert (found.host, found.path) == (HOSTS[region], "/jobs.shop.example/uploads/1/é day.csv")
    assert found.signature_fits


@pytest.mark.parametrize(
    ("variables", "host"),
    [
        ({"AWS_USE_FIPS_ENDPOINT": "true"}, "a-bucket.s3-fips.us-east-1.amazonaws.com"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "a-bucket.s3.dualstack.us-east-1.amazonaws.com"),
        ({"AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": "legacy"}, "a-bucket.s3.us-east-1.amazonaws.com"),
    ],
)
@pytest.mark.usefixtures("credentials")
def test_fips_and_dual_stack_have_hosts_of_their_own_and_no_setting_brings_the_old_one_back(
    variables: dict[str, str], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"AWS_DEFAULT_REGION": "us-east-1", **variables}.items():
        monkeypatch.setenv(name, value)
    found = presigned("GET", BUCKET)
    assert (found.host, found.signature_fits) == (host, True)


@pytest.mark.parametrize("bucket", [BUCKET, "jobs.shop.example"])
@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:4566", "https://localhost:4566", "https://127.0.0.1:4566"])
@pytest.mark.usefixtures("credentials")
def test_at_an_endpoint_of_its_own_such_as_the_embedded_awss_a_bucket_is_in_the_path(
    endpoint: str, variable: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(variable, endpoint)
    found = presigned("PUT", bucket)
    assert (found.host, found.path) == (urlsplit(endpoint).netloc, f"/{bucket}/uploads/1/é day.csv")
    assert found.signature_fits


# -- the clients of the monolith and of the command line


def config_of(client: Any) -> tuple[Any, ...]:
    config = client.meta.config
    return client.meta.region_name, config.connect_timeout, config.read_timeout, config.retries


@pytest.mark.usefixtures("credentials")
def test_a_publisher_finds_its_region_where_the_jobs_client_does_and_waits_no_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    publisher = Publisher.connect("bus", claims_bucket=BUCKET)
    assert publisher._claims is not None
    assert config_of(publisher._events) == ("us-east-1", 3, 10, {"mode": "standard", "total_max_attempts": 1})
    assert config_of(publisher._claims._s3) == ("us-east-1", 3, 20, {"mode": "standard", "total_max_attempts": 3})
    where = (f"{BUCKET}.s3.us-east-1.amazonaws.com", "/k", "us-east-1/s3/aws4_request")
    assert asked(publisher._claims._s3, "s3") == where


@pytest.mark.usefixtures("credentials")
def test_a_command_asks_an_account_s_services_in_its_region_and_waits_no_minute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    aws_of_dev = Aws("dev")
    assert config_of(aws_of_dev.dynamodb) == ("us-east-1", 5, 30, {"mode": "standard", "total_max_attempts": 5})
    where = (f"{BUCKET}.s3.us-east-1.amazonaws.com", "/k", "us-east-1/s3/aws4_request")
    assert asked(aws_of_dev.s3, "s3") == where
