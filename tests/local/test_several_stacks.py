"""A second stack that receives webhooks: the commands see both ingresses, and change the one that is meant."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from offload.cli.audit.events import owed_webhooks
from offload.cli.local.up import bring_up
from offload.cli.webhooks_in.received import overviews, recent
from offload.cli.webhooks_in.secrets import rotate
from offload.cli.webhooks_in.try_endpoint import send
from offload.contracts.webhooks_in.providers import GITHUB
from tests.clinics import CLINIC
from tests.copies import Copy
from tests.local.test_replacements import PLATFORM, STACK

PARTNERS = "offload-local-partners"


def with_a_second_ingress(project: Path, into: Path) -> Path:
    """The environment `local` as it is, and a stack that receives one of the clinic's providers."""
    # Here: it starts the CDK, which every process that collects this test would do.
    from aws_cdk import App

    from clinic.stack import compose
    from offload.cdk import Environment, EnvironmentStack, Platform, WebhookReceiver
    from offload.cdk.constructs.python_function import ROOT_CONTEXT
    from offload.cdk.references import name_outputs_by_definition
    from tests.assemblies import FLAGS

    context = FLAGS | {ROOT_CONTEXT: str(project), "aws:cdk:enable-path-metadata": True}
    # Without the CDK's own rules, which take 5 s of CPU to load: `make synth` and `make up` see them kept.
    app = App(outdir=str(into), context=context, builtin_cloud_formation_validation=False)
    compose(app, Environment.load("local", CLINIC / "environments"))
    platform = app.node.find_child(PLATFORM)
    assert isinstance(platform, Platform)
    WebhookReceiver(EnvironmentStack(app, PARTNERS), "GitHub", provider=GITHUB, bus=platform.bus)
    app.synth()
    name_outputs_by_definition(into)
    return into


def test_providers_of_two_stacks_are_listed_rotated_tried_and_audited(copy: Copy, tmp_path: Path) -> None:
    deployment = bring_up(copy.embedded, assembly=with_a_second_ingress(copy.project, tmp_path / "cdk.out"))

    refused = copy.offload("webhooks", "rotate", "github")
    assert refused.returncode == 1
    assert f"in 2 stacks: name one by --stack NAME, of {STACK}, {PARTNERS}" in refused.stderr
    tried = {}
    for stack in (STACK, PARTNERS):
        made = rotate(deployment, "github", overlap=timedelta(hours=1), stack=stack)
        tried[stack] = send(deployment, "github", stack=stack)
        assert (tried[stack].status, tried[stack].key_id) == (200, made.key_id)
    urls = {each.stack: each.url for each in overviews(deployment) if each.provider == GITHUB}
    assert urls == {stack: each.url for stack, each in tried.items()}
    assert urls[STACK] != urls[PARTNERS]
    came = {each.stack: each.event_id for each in recent(deployment, provider="github", limit=10)}
    assert came == {stack: each.event_id for stack, each in tried.items()}
    assert not owed_webhooks(deployment)
