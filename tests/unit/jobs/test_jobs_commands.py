"""What `offload jobs` and the jobs' part of `offload audit` say and do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typer.testing import CliRunner, Result

from clinic.catalogue import CATALOGUE
from clinic.contracts.jobs import WARD_REPORT, Days
from offload.cli.audit.jobs import OVERDUE, draw_up
from offload.cli.deployment import resources
from offload.cli.deployment.aws import Aws
from offload.cli.deployment.failure import Failure
from offload.cli.deployment.resources import DeployedStack, Deployment, JobService, Resource
from offload.cli.jobs import commands as jobs_commands
from offload.cli.jobs.service import files_of
from offload.cli.local.process import Instance
from offload.cli.main import app
from offload.contracts.jobs.job import State
from tests.unit.jobs.job_bench import JobBench
from tests.unit.jobs.job_server import CREDENTIALS, REGION, Fault, JobServer, at_work, serving_jobs

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

RUNNER = CliRunner()
REPORT = {"fees": "1.00", "units": 1, "visits": 1, "cancellations": 0, "page": "results/1/p.html", "table": "t"}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JobServer]:
    """A job service, and the commands pointed at it."""
    variables = {
        "AWS_ACCESS_KEY_ID": CREDENTIALS.access_key,
        "AWS_SECRET_ACCESS_KEY": CREDENTIALS.secret_key,
        "AWS_REGION": REGION,
        "NO_PROXY": "127.0.0.1",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(jobs_commands, "_LOOK_EVERY", 0.01)
    with serving_jobs() as server:

        class Found(Deployment):
            """A job service that was not deployed; everything is real but the look-up."""

            @property
            def job_service(self) -> JobService:
                return JobService(server.url, "jobs", "files")

        monkeypatch.setattr(resources.Deployment, "of", lambda environment: Found(Aws(environment)))
        yield server


def call(*arguments: str) -> Result:
    """Runs a command; a Failure is the result's exception."""
    return RUNNER.invoke(app, ["jobs", *arguments])


def document(*arguments: str) -> Any:
    result = call(*arguments, "--json")
    assert result.exit_code == 0, (result.stderr, result.exception)
    return json.loads(result.stdout)


def failure(*arguments: str) -> str:
    result = call(*arguments)
    assert isinstance(result.exception, Failure), (result.stdout, result.exception)
    assert "\n" not in str(result.exception)
    return str(result.exception)


def submitted(*options: str) -> str:
    return str(document("submit", "ward_report", *options)["id"])


def test_a_submit_has_every_option_and_is_shown(server: JobServer) -> None:
    content = '{"first": "2010-12-01"}'
    options = ("--delay", "2h", "--priority", "low", "--tag", "a", "--tag", "b", "--idempotency-key", "mine")
    found = document("submit", "ward_report", "--input", content, *options)
    assert (found["id"], found["state"], found["created"]) == ("job-mine", "waiting", True)
    assert (found["priority"], found["tags"], found["input"]) == ("low", ["a", "b"], {"first": "2010-12-01"})
    assert msgspec.json.decode(server.posts("/jobs")[0])["delay"] == 7200
    again = call("submit", "ward_report", "--input", content, *options)
    assert again.stdout == "job-mine waiting (it was there already)\n"
    assert len(server.jobs) == 1


def test_a_submit_for_a_time_says_its_zone(server: JobServer) -> None:
    found = document("submit", "ward_report", "--run-at", "2026-11-25T02:00Z")
    assert found["run_at"] == "2026-11-25T02:00:00Z"
    assert "has no zone" in failure("submit", "ward_report", "--run-at", "2026-11-25T02:00")


def test_an_input_may_be_in_a_file(server: JobServer, tmp_path: Path) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"last": "2010-12-31"}')
    assert document("submit", "ward_report", "--input", f"@{file}")["input"] == {"last": "2010-12-31"}
    assert "No such file" in failure("submit", "ward_report", "--input", f"@{tmp_path / 'none'}")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ("submit", "wards"),
            "there is no job type 'wards': delivery_batch, patient_groups, patients_shard, visit_import, ward_report",
        ),
        (("submit", "ward_report", "--input", "{"), "--input: Input data was truncated"),
        (
            ("submit", "ward_report", "--input", '{"first": "soon"}'),
            "--input: Invalid RFC3339 encoded date - at `$.first`; Days has first (optional), last (optional)",
        ),
        (("submit", "visit_import"), "--input: Object missing required field `file`; VisitsFile has file"),
        (("submit", "ward_report", "--priority", "urgent"), "'urgent' is not one of its lanes: high, normal, low"),
        (("submit", "ward_report", "--delay", "1h", "--run-at", "2026-11-25T02:00Z"), "delay and run_at"),
        (("show", "job-none"), "No-Such-Job: there is no job job-none"),
        (("retry", "job-none"), "No-Such-Job: there is no job job-none"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_submitted(
    server: JobServer, arguments: tuple[str, ...], told: str
) -> None:
    assert told in failure(*arguments)
    assert server.jobs == {}


def test_a_local_file_is_uploaded_before_the_job_that_reads_it(server: JobServer, tmp_path: Path) -> None:
    file = tmp_path / "visits.jsonl"
    file.write_text("{}\n")
    found = document("submit", "visit_import", "--input", json.dumps({"file": str(file)}))
    assert found["input"] == {"file": "uploads/1/visits.jsonl"}
    assert server.files == {"uploads/1/visits.jsonl": b"{}\n"}
    again = document("submit", "visit_import", "--input", '{"file": "uploads/1/visits.jsonl"}')
    assert again["input"] == found["input"]
    assert len(server.posts("/uploads")) == 1
    assert "there is no file nowhere.csv here" in failure("submit", "visit_import", "--input", '{"file":"nowhere.csv"}')


def test_waiting_for_a_job_prints_its_result_once_it_is_there(server: JobServer) -> None:
    def work() -> None:
        while not server.jobs:
            done.wait(0.01)
        (job_id,) = server.jobs
        job = server.jobs[job_id]
        result = msgspec.Raw(msgspec.json.encode(REPORT))
        ended = msgspec.structs.replace(job, state=State.SUCCEEDED, attempt=1, result_json=result)
        server.looks[job_id] = [at_work(job, 2, 5, "[days]"), ended]

    done = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    result = call("submit", "ward_report", "--wait", "--json")
    worker.join()
    assert result.exit_code == 0, result.exception
    assert json.loads(result.stdout)["result"] == REPORT
    assert "running 2 of 5 [days]" in result.stderr.splitlines()


def test_a_job_that_fails_while_it_is_watched_ends_with_exit_code_1_and_its_error(server: JobServer) -> None:
    job_id = submitted()
    server.end(job_id, State.FAILED, error="NoLedger: [it] is gone")
    result = call("watch", job_id)
    assert result.exit_code == 1
    assert "NoLedger: [it] is gone" in result.stdout
    assert json.loads(call("watch", job_id, "--json").stdout)["state"] == "failed"


def test_a_watch_goes_on_while_the_service_is_in_trouble(server: JobServer) -> None:
    job_id = submitted()
    server.end(job_id, State.SUCCEEDED, result=b"{}")
    server.faults = [Fault(reset=True), Fault(status=503)]
    assert call("watch", job_id).exit_code == 0


def test_a_large_result_is_shown_from_where_it_is(server: JobServer) -> None:
    job_id = submitted()
    server.end(job_id, State.SUCCEEDED)
    server.files[f"results/{job_id}.json"] = msgspec.json.encode(REPORT)
    assert document("watch", job_id)["result"] == REPORT
    assert json.loads(call("result", job_id).stdout) == REPORT


def test_jobs_are_listed_newest_first_as_far_as_asked(server: JobServer) -> None:
    assert call("list").stdout == "no jobs\n"
    made = [submitted("--tag", "odd" if number % 2 else "even") for number in range(5)]
    assert [job["id"] for job in document("list")["jobs"]] == made[::-1]
    assert [job["id"] for job in document("list", "--tag", "odd", "--type", "ward_report")["jobs"]] == [
        made[3],
        made[1],
    ]
    page = document("list", "--limit", "3")
    assert [job["id"] for job in page["jobs"]] == made[:1:-1]
    rest = document("list", "--cursor", page["cursor"])
    assert ([job["id"] for job in rest["jobs"]], rest["cursor"]) == (made[1::-1], None)
    server.end(made[0], State.FAILED, error="NoLedger: [gone]")
    text = call("list", "--since", "1d", "--state", "failed").stdout
    assert made[0] in text
    assert "NoLedger: [gone]" in text
    assert made[1] not in text
    assert "and older ones" in call("list", "--limit", "2").stdout


def test_a_job_is_shown_whole(server: JobServer) -> None:
    job_id = submitted("--tag", "[month]")
    server.jobs[job_id] = at_work(server.jobs[job_id], 2, 5, "days")
    lines = call("show", job_id).stdout.splitlines()
    facts = dict(line.split(maxsplit=1) for line in lines[:8])
    assert (facts["id"], facts["state"], facts["input"]) == (job_id, "running", "{}")
    assert (facts["says"], facts["tags"]) == ("2 of 5 days", "[month]")
    assert lines[-1].split() == ["2026-11-24", "02:00:00.000", "queued", "0", "submitted"]
    assert document("show", job_id)["progress"] == {"done": 2, "total": 5, "message": "days"}


def test_a_job_is_shown_with_its_children_and_theirs(server: JobServer) -> None:
    parent, child, grandchild = submitted(), submitted(), submitted()
    gone = "job-that-is-not-kept-any-more"
    server.jobs[parent] = msgspec.structs.replace(server.jobs[parent], children=(child, gone))
    server.jobs[child] = msgspec.structs.replace(server.jobs[child], children=(grandchild,))
    lines = [line.split() for line in call("show", parent).stdout.splitlines()]
    assert lines[-4:] == [
        ["children", "type", "state"],
        [child, "ward_report", "queued"],
        [grandchild, "ward_report", "queued"],
        [gone, "not", "kept", "any", "more"],
    ]
    assert document("show", parent)["children"] == [child, gone]


def test_a_job_is_cancelled_once(server: JobServer) -> None:
    job_id = submitted()
    assert call("cancel", job_id).stdout == f"{job_id} cancelled\n"
    assert "has ended" in failure("cancel", job_id)


def test_a_retry_is_a_new_job_with_the_same_or_another_input(server: JobServer) -> None:
    job_id = submitted("--input", '{"first": "2010-12-01"}')
    server.end(job_id, State.FAILED)
    same, other = document("retry", job_id), document("retry", job_id, "--input", "{}")
    assert (same["retry_of"], same["input"]) == (job_id, {"first": "2010-12-01"})
    assert (other["retry_of"], other["input"]) == (job_id, {})
    assert len({job_id, same["id"], other["id"]}) == 3
    assert "--input: " in failure("retry", job_id, "--input", '{"first": 3}')


def test_a_person_decides_on_a_held_job(server: JobServer) -> None:
    job_id = submitted()
    server.end(job_id, State.HELD)
    assert "offload jobs decide" in call("show", job_id).stdout
    assert "--result: " in failure("decide", job_id, "done", "--result", "{}")
    found = document("decide", job_id, "done", "--result", json.dumps(REPORT), "--why", "the bank says so")
    assert (found["state"], found["result"]) == ("succeeded", REPORT)
    assert "is not held" in failure("decide", job_id, "fail")
    assert call("decide", job_id, "perhaps").exit_code == 2


def test_a_result_is_printed_or_written_and_one_that_is_not_there_is_told(server: JobServer, tmp_path: Path) -> None:
    job_id = submitted()
    assert "is queued: `offload jobs watch" in failure("result", job_id)
    server.end(job_id, State.SUCCEEDED, result=msgspec.json.encode(REPORT))
    out = tmp_path / "report.json"
    assert call("result", job_id, "--out", str(out)).stdout == ""
    assert json.loads(out.read_text()) == json.loads(call("result", job_id).stdout) == REPORT
    assert "No such file" in failure("result", job_id, "--out", str(tmp_path / "none" / "x"))
    server.end(job_id, State.FAILED, error="NoLedger")
    assert "failed in attempt 1: NoLedger" in failure("result", job_id)


def test_the_files_of_a_result_are_those_below_the_results_folder() -> None:
    assert files_of({"page": "results/1/p.html", "n": 1, "more": [{"t": "results/1/t.csv"}, "uploads/x", None]}) == [
        "results/1/p.html",
        "results/1/t.csv",
    ]


def test_types_and_schedules_are_listed(server: JobServer) -> None:
    text = call("types").stdout
    assert "ward_report" in text
    assert "[first], [last]" in text
    assert "high, normal, low" in text
    assert "visit_import" in {each["name"] for each in document("types")["job_types"]}
    assert call("schedules").stdout.splitlines() == [
        "ward_report: 0 2 * * * (Europe/London)",
        "  Wed 2026-11-25 02:00 GMT",
        "  Tue 2027-06-01 02:00 BST",
    ]
    assert "offload jobs resume ward_report" in call("pause", "ward_report").stdout
    assert document("schedules")["schedules"][0]["paused"] is True
    assert "(Europe/London), paused" in call("schedules").stdout
    assert document("resume", "ward_report")["paused"] is False


# -- where the service is


STACK = "offload-dev-Platform"
VARIABLES = {"OFFLOAD_JOBS_TABLE": {"Ref": "Table"}, "OFFLOAD_JOBS_BUCKET": {"Ref": "Bucket"}}
API_FUNCTION = {"Handler": "offload.functions.jobs_api.handler.handler", "Environment": {"Variables": VARIABLES}}


def deployed(environment: str, instance: Instance | None = None, outputs: tuple[str, ...] = ()) -> Deployment:
    class Read(Deployment):
        """Stacks as they would be read."""

        stacks = (DeployedStack(STACK, "CREATE_COMPLETE", {}, outputs),)
        resources = tuple(
            Resource(STACK, path, logical_id, kind, physical_id, properties)
            for path, logical_id, kind, physical_id, properties in (
                ("Jobs/Api/Function", "Function", "AWS::Lambda::Function", "the-function", API_FUNCTION),
                ("Jobs/Jobs", "Table", "AWS::DynamoDB::GlobalTable", "the-table", {}),
                ("Jobs/Files", "Bucket", "AWS::S3::Bucket", "the-bucket", {}),
                ("Jobs/HttpApi", "HttpApi", "AWS::ApiGatewayV2::Api", "a1b2", {}),
                ("Hooks/HttpApi", "Other", "AWS::ApiGatewayV2::Api", "c3d4", {}),
            )
        )

    return Read(Aws(environment, instance))


def test_on_aws_the_service_is_where_the_stacks_output_says() -> None:
    url = "https://a1b2.execute-api.eu-west-1.amazonaws.com"
    found = deployed("dev", outputs=("arn:aws:sns:x", "https://c3d4.execute-api.eu-west-1.amazonaws.com", url))
    assert found.job_service == JobService(url, "the-table", "the-bucket")
    with pytest.raises(Failure, match="has no output with the URL of Jobs/HttpApi"):
        _ = deployed("dev").job_service


def test_on_the_embedded_aws_the_service_is_found_without_a_host_name(emulator: Instance) -> None:
    assert deployed("local", emulator).job_service.endpoint == f"{emulator.endpoint}/_aws/execute-api/a1b2"


def test_an_environment_without_a_job_service_says_so() -> None:
    class Bare(Deployment):
        stacks = ()
        resources = ()

    assert Bare(Aws("dev")).job_service_or_none() is None
    with pytest.raises(Failure, match="environment dev has no job service"):
        _ = Bare(Aws("dev")).job_service


# -- the audit


@pytest.fixture
def bench(aws_environment: None, monkeypatch: pytest.MonkeyPatch) -> JobBench:
    return JobBench(monkeypatch, WARD_REPORT)


def test_accepted_is_ended_and_open_in_every_state(bench: JobBench, dynamodb: DynamoDBClient) -> None:
    waiting = bench.submit(WARD_REPORT, Days(), delay=3600)
    bench.submit(WARD_REPORT, Days())
    bench.store.cancel(bench.submit(WARD_REPORT, Days()))
    account = draw_up(dynamodb, bench.name, CATALOGUE.job_types, now=bench.time)
    line = next(line for line in account.lines if line.type == "ward_report")
    assert (line.accepted, line.ended, line.waiting, line.queued, line.missing) == (3, 1, 1, 1, 0)
    assert account.adds_up
    later = bench.time + timedelta(hours=1) + OVERDUE + timedelta(seconds=1)
    late = draw_up(dynamodb, bench.name, CATALOGUE.job_types, now=later)
    assert not late.adds_up
    assert waiting in {odd.job for odd in late.odd if odd.what == "overdue"}


def test_a_job_that_nobody_will_look_at_is_named(bench: JobBench, dynamodb: DynamoDBClient) -> None:
    job_id = bench.submit(WARD_REPORT, Days(first=date(2010, 12, 1)))
    key: Any = {"pk": {"S": f"job#{job_id}"}, "sk": {"S": "job"}}
    dynamodb.update_item(TableName=bench.name, Key=key, UpdateExpression="REMOVE due_at")
    account = draw_up(dynamodb, bench.name, CATALOGUE.job_types, now=bench.time)
    assert not account.adds_up
    assert [(odd.what, odd.job) for odd in account.odd] == [("forgotten", job_id)]


def test_a_job_that_was_deleted_by_hand_is_counted_as_missing(bench: JobBench, dynamodb: DynamoDBClient) -> None:
    job_id = bench.submit(WARD_REPORT, Days())
    key: Any = {"pk": {"S": f"job#{job_id}"}, "sk": {"S": "job"}}
    dynamodb.delete_item(TableName=bench.name, Key=key)
    account = draw_up(dynamodb, bench.name, CATALOGUE.job_types, now=bench.time)
    assert not account.adds_up
    assert {line.type: line.missing for line in account.lines if line.missing} == {"ward_report": 1}
