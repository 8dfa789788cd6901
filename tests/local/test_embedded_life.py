"""The embedded AWS with the app on it: what is deployed, what is patched, what is left after it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import Deployment
from offload.cli.deployment.status import depths
from offload.cli.local.deploy import copy_for_emulator, deploy
from offload.cli.local.patches import apply_patches
from offload.cli.local.process import EmbeddedAws, free_port
from offload.cli.local.up import bring_up
from tests.copies import App, Copy, run_offload
from tests.patience import PATIENCE


def wait_until_idle(deployment: Deployment) -> None:
    deadline = time.monotonic() + PATIENCE
    while sum(queues.queue.all for queues in depths(deployment)):
        assert time.monotonic() < deadline, f"events still wait: {depths(deployment)}"
        time.sleep(0.25)


def publish_a_broken_visit(deployment: Deployment) -> None:
    """An event that the bus takes and that the ledger gives up on."""
    answer = deployment.aws.events.put_events(
        Entries=[
            {
                "EventBusName": deployment.bus,
                "Source": "offload.clinic",
                "DetailType": "visit.ended",
                "Detail": '{"no": "event"}',
            }
        ]
    )
    assert answer["FailedEntryCount"] == 0


def dead_letters_of_the_ledger(deployment: Deployment) -> int:
    return {queues.consumer: queues.dead for queues in depths(deployment)}["VisitLedger"]


def test_every_consumer_is_found_with_all_of_its_parts(deployed: Copy) -> None:
    consumers = {consumer.name: consumer for consumer in deployed.deployment.consumers()}
    ledger = consumers["VisitLedger"]
    assert ledger.folder == "visit_ledger"
    assert ledger.event_types == ("visit.cancelled", "visit.ended")
    assert ledger.marks_table is not None
    assert ledger.rule_dead_letter_queue_url is not None
    assert len({ledger.queue_url, ledger.dead_letter_queue_url, ledger.rule_dead_letter_queue_url}) == 3
    assert deployed.deployment.consumer("supply_levels").name == "SupplyLevels"


def test_a_name_that_does_not_exist_is_refused_with_the_names_that_do(deployed: Copy) -> None:
    with pytest.raises(Failure, match=r"no function 'VisitLeger': .*VisitLedger \(lambdas/visit_ledger\)"):
        deployed.deployment.function("VisitLeger")
    with pytest.raises(Failure, match=r"no GlobalTable or Table called 'Leger': .*Ledger"):
        deployed.deployment.table("Leger")


def test_the_bus_has_its_archive_and_tables_expire_their_items(deployed: Copy, assembly: Path) -> None:
    aws = deployed.deployment.aws
    archive = aws.events.describe_archive(ArchiveName=deployed.deployment.archive)
    assert archive["RetentionDays"] == 1
    templates = [json.loads(path.read_text()) for path in assembly.glob("*.template.json")]
    expiring = [
        (logical_id, resource["Properties"]["TimeToLiveSpecification"]["AttributeName"])
        for template in templates
        for logical_id, resource in template["Resources"].items()
        if resource["Type"].startswith("AWS::DynamoDB::") and "TimeToLiveSpecification" in resource["Properties"]
    ]
    found = {resource.logical_id: resource.physical_id for resource in deployed.deployment.resources}
    for logical_id, attribute in expiring:
        answer = aws.dynamodb.describe_time_to_live(TableName=found[logical_id])["TimeToLiveDescription"]
        assert (answer.get("TimeToLiveStatus"), answer.get("AttributeName")) == ("ENABLED", attribute)


def test_what_was_taken_away_from_outside_is_mended_again_and_nothing_else(deployed: Copy, assembly: Path) -> None:
    aws = deployed.deployment.aws
    assert apply_patches(aws, assembly) == []
    aws.events.delete_archive(ArchiveName=deployed.deployment.archive)
    assert [patched.patch for patched in apply_patches(aws, assembly)] == ["archive of the bus"]
    assert apply_patches(aws, assembly) == []


def test_status_shows_consumers_and_their_queues(deployed: Copy) -> None:
    shown = deployed.offload("status")
    assert shown.returncode == 0, shown.stderr
    assert "VisitLedger" in shown.stdout
    found = json.loads(deployed.offload("status", "--json").stdout)
    assert found["environment"] == "local"
    assert {stack["name"] for stack in found["stacks"]} == {"offload-local-platform", "offload-local-clinic"}
    (ledger,) = [consumer for consumer in found["consumers"] if consumer["name"] == "VisitLedger"]
    assert set(ledger) == {"name", "waiting", "in_flight", "delayed", "dead", "undeliverable"}


def test_logs_show_what_became_of_an_event_by_construct_and_by_folder(deployed: Copy) -> None:
    publish_a_broken_visit(deployed.deployment)
    wait_until_idle(deployed.deployment)
    for name in ("VisitLedger", "visit_ledger"):
        shown = deployed.offload("logs", name)
        assert shown.returncode == 0, shown.stderr
        assert "ERROR  record" in shown.stdout
        assert "outcome=dead" in shown.stdout
    raw = [json.loads(line) for line in deployed.offload("logs", "VisitLedger", "--json").stdout.splitlines()]
    assert any(line["message"].startswith("REPORT ") for line in raw)


def test_logs_of_an_unknown_function_are_one_line_on_stderr(deployed: Copy) -> None:
    shown = deployed.offload("logs", "Nobody")
    assert (shown.returncode, shown.stdout) == (1, "")
    assert shown.stderr.startswith("offload: environment local has no function 'Nobody': ")
    assert len(shown.stderr.splitlines()) == 1


def test_a_deploy_that_the_emulator_refuses_ends_with_the_commands_own_words(
    deployed: Copy, assembly: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    copy_for_emulator(assembly, copy)
    path = copy / "offload-local-clinic.template.json"
    template = json.loads(path.read_text())
    template["Resources"]["Tracing"] = {"Type": "AWS::XRay::Group", "Properties": {}}
    path.write_text(json.dumps(template))
    assets = copy / "offload-local-clinic.assets.json"
    manifest = copy / "manifest.json"
    (known,) = [
        asset for asset, file in json.loads(assets.read_text())["files"].items() if file["source"]["path"] == path.name
    ]
    for file in (assets, manifest):
        file.write_text(file.read_text().replace(known, "0" * 64))
    with pytest.raises(Failure, match=r"`cdk deploy` failed:\n(.|\n)*AWS::XRay::Group"):
        deploy(deployed.deployment.aws, copy)


@pytest.fixture
def own(tmp_path: Path, app: App) -> Iterator[EmbeddedAws]:
    embedded = EmbeddedAws(tmp_path / "own", port=free_port(), project=app.project)
    yield embedded
    embedded.stop()


def test_what_was_deployed_and_what_waits_is_there_again_after_down_and_up_even_on_another_port(
    copy: Copy, assembly: Path
) -> None:
    first = copy.deployment
    publish_a_broken_visit(first)
    wait_until_idle(first)
    assert first.aws.instance is not None
    assert copy.embedded.stop() is not None
    again = EmbeddedAws(copy.embedded.root, port=free_port(), project=copy.project)
    second = bring_up(again, assembly=assembly)
    assert second.aws.instance is not None
    assert second.aws.instance.generation == first.aws.instance.generation
    assert second.aws.instance.port != first.aws.instance.port
    assert dead_letters_of_the_ledger(second) == 1
    publish_a_broken_visit(second)
    wait_until_idle(second)
    assert dead_letters_of_the_ledger(second) == 2


def test_after_a_kill_the_command_line_says_so_and_the_next_start_is_empty(own: EmbeddedAws, app: App) -> None:
    instance = own.start()
    os.kill(instance.pid, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while own.running() is not None:
        assert time.monotonic() < deadline
    shown = run_offload(["status"], own.root, app.project)
    assert (shown.returncode, shown.stderr) == (
        1,
        "offload: the embedded AWS is not running: start it with `make up`\n",
    )
    assert own.start().generation != instance.generation


def test_down_ends_every_worker_too(copy: Copy) -> None:
    publish_a_broken_visit(copy.deployment)
    wait_until_idle(copy.deployment)
    instance = copy.embedded.connected()
    workers = copy.embedded.workers()
    assert workers, "no worker runs: this test shows nothing"
    down = copy.offload("down")
    assert down.returncode == 0, down.stderr
    assert copy.embedded.workers() == []
    for pid in (instance.pid, *workers):
        assert not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes()


def test_with_iam_enforced_over_tls_the_same_app_works_and_a_stranger_is_denied(deployed_with_iam: Copy) -> None:
    deployment = deployed_with_iam.deployment
    assert deployment.aws.instance is not None
    assert deployment.aws.instance.endpoint.startswith("https://")
    publish_a_broken_visit(deployment)
    wait_until_idle(deployment)
    assert dead_letters_of_the_ledger(deployment) == 1
    deployment.aws.iam.create_user(UserName="stranger")
    key = deployment.aws.iam.create_access_key(UserName="stranger")["AccessKey"]
    stranger = deployment.aws.session.client(
        "sqs",
        endpoint_url=deployment.aws.instance.endpoint,
        verify=deployment.aws.instance.certificate,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        stranger.send_message(QueueUrl=deployment.consumer("VisitLedger").queue_url, MessageBody="x")
