"""The bill of a month in which nothing arrives, from the templates."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from clinic.catalogue import CATALOGUE
from offload.cli.costs import environments as costs
from offload.cli.costs import prices
from offload.cli.costs.bill import ALARMS, METRICS, SECRETS, SQS, Bill, UnpricedResource, bill
from offload.cli.costs.sweeps import idle_calls
from offload.cli.deployment.failure import Failure
from offload.cli.main import app
from offload.contracts.functions import handler_of, own
from offload.project import PROJECT
from tests.assemblies import Templates, templates_in
from tests.clinics import CLINIC, project_in

pytestmark = pytest.mark.synthesis

POLLS = 730 * 3600 / 20
"""Requests of one poller in a month."""


@pytest.fixture(scope="module")
def templates(clinic_of: Callable[[str], Path]) -> dict[str, Templates]:
    return {name: templates_in(clinic_of(name)) for name in costs.environments(CLINIC)}


@pytest.fixture(scope="module")
def bills(templates: dict[str, Templates]) -> dict[str, Bill]:
    # What is made for a module is made before a test's own fixtures.
    with pytest.MonkeyPatch.context() as clinic:
        clinic.setattr("offload.cli.catalogue.PROJECT", CLINIC)
        return {name: bill(name, found) for name, found in templates.items()}


def stack(**resources: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """The templates of one stack with these resources."""
    found = {name: {"Type": kind, "Properties": properties} for name, (kind, properties) in resources.items()}
    return {"Clinic": {"Resources": found}}


def amount(found: Bill, meter: Any) -> float:
    return sum(part.amount for part in found.parts if part.meter == meter)


# -- the goals, and the documents


@pytest.mark.slow
@pytest.mark.parametrize(("name", "listed", "after_free"), [("dev", 2.40, 1.75), ("prod", 8.65, None)])
def test_an_idle_environment_costs_no_more_than_its_goal(
    bills: dict[str, Bill], name: str, listed: float, after_free: float | None
) -> None:
    assert bills[name].listed <= listed
    assert after_free is None or bills[name].to_pay <= after_free


def test_no_other_document_says_what_an_idle_month_costs() -> None:
    claims = re.compile(
        r"(\$|dollars?|cents?).{0,40}(idle|at rest|with no event)|idle.{0,40}(\$ ?\d|\d \$|dollars?)", re.I
    )
    found = [
        f"{file.relative_to(PROJECT)}: {line}"
        for file in (PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md"))
        for line in re.sub(
            r"<!-- bill: .*?<!-- /bill -->", "", file.read_text(encoding="utf-8"), flags=re.S
        ).splitlines()
        if claims.search(line)
    ]
    assert found == []


@pytest.mark.slow
def test_the_constructs_add_up_to_the_whole(bills: dict[str, Bill]) -> None:
    for found in bills.values():
        assert sum(dollars for _, dollars in found.constructs) == pytest.approx(found.listed)
        assert all("/" not in name for name, _ in found.constructs)


@pytest.mark.slow
def test_what_is_free_is_taken_off_once(bills: dict[str, Bill]) -> None:
    [polls] = [part for part in bills["prod"].parts if part.meter == SQS]
    assert polls.to_pay == pytest.approx(polls.listed - prices.FREE_SQS_REQUESTS * prices.SQS / prices.MILLION)
    [secrets] = [part for part in bills["prod"].parts if part.meter == SECRETS]
    assert secrets.to_pay == secrets.listed, "Secrets Manager has a trial, and nothing that is free for ever"


@pytest.mark.slow
def test_no_line_of_an_idle_month_feeds_a_metric(bills: dict[str, Bill]) -> None:
    assert {name: amount(found, METRICS) for name, found in bills.items()} == dict.fromkeys(bills, 0)


# -- the counting


def test_a_type_without_a_price_is_an_error_that_names_it() -> None:
    with pytest.raises(
        UnpricedResource, match=r"^Clinic/Proxy: AWS::RDS::DBProxy has no price: give it one, or a reason"
    ):
        bill("dev", stack(Proxy=("AWS::RDS::DBProxy", {})))


@pytest.mark.parametrize(
    ("settings", "pollers"), [({}, 2), ({"ScalingConfig": {"MaximumConcurrency": 2}}, 5), ({"ScalingConfig": {}}, 2)]
)
def test_a_queue_with_a_maximum_concurrency_is_polled_more(settings: dict[str, Any], pollers: int) -> None:
    mapping = {"EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]}, **settings}
    found = bill("dev", stack(Queue=("AWS::SQS::Queue", {}), Feed=("AWS::Lambda::EventSourceMapping", mapping)))
    assert amount(found, SQS) == pytest.approx(pollers * POLLS)


def test_provisioned_pollers_cost_by_the_hour() -> None:
    mapping = {"EventSourceArn": {"Fn::GetAtt": ["Queue", "Arn"]}, "ProvisionedPollerConfig": {"MinimumPollers": 2}}
    found = bill("dev", stack(Queue=("AWS::SQS::Queue", {}), Feed=("AWS::Lambda::EventSourceMapping", mapping)))
    assert found.listed == pytest.approx(2 * 730 * 0.00925 + 2 * POLLS * 0.4 / 1e6)


def test_an_alarm_costs_for_each_of_its_metrics_and_more_for_short_periods() -> None:
    metric = {"MetricStat": {"Period": 60}}
    found = bill(
        "dev",
        stack(
            One=("AWS::CloudWatch::Alarm", {"Period": 300}),
            Several=("AWS::CloudWatch::Alarm", {"Metrics": [metric, metric, {"Expression": "a + b"}]}),
            Fast=("AWS::CloudWatch::Alarm", {"Period": 10}),
        ),
    )
    assert amount(found, ALARMS) == 3
    assert found.listed == pytest.approx(3 * 0.10 + 0.30)


def scheduled(rate: str = "rate(1 minute)", source: str = own("webhook_relay"), **filter_of: Any) -> dict[str, Any]:
    """A stack with a function that a schedule calls, and a metric of its log."""
    return stack(
        Log=("AWS::Logs::LogGroup", {"RetentionInDays": 30}),
        Function=(
            "AWS::Lambda::Function",
            {
                "Handler": handler_of(source),
                "Architectures": ["arm64"],
                "MemorySize": 256,
                "LoggingConfig": {"LogGroup": {"Ref": "Log"}},
            },
        ),
        Minute=(
            "AWS::Scheduler::Schedule",
            {"ScheduleExpression": rate, "Target": {"Arn": {"Fn::GetAtt": ["Function", "Arn"]}}},
        ),
        Metric=(
            "AWS::Logs::MetricFilter",
            {
                "LogGroupName": {"Ref": "Log"},
                "FilterPattern": '{ $.oldest_seconds = "*" }',
                "MetricTransformations": [{"MetricValue": "$.oldest_seconds"}],
                **filter_of,
            },
        ),
    )


def parts(found: Bill) -> dict[str, float]:
    return {part.meter.name: part.amount for part in found.parts}


def test_a_schedule_s_calls_are_counted_with_what_the_function_does_in_them() -> None:
    minute, hour = parts(bill("dev", scheduled())), parts(bill("dev", scheduled("rate(1 hour)")))
    assert minute["Scheduler"] == minute["Lambda, requests"] == 43_800
    assert minute["DynamoDB, reads"] == 43_800 * idle_calls(CATALOGUE)[own("webhook_relay")].read_units
    assert 0 < minute["Lambda, time"] < 43_800 * 0.25
    assert "custom metrics" not in minute
    assert hour == pytest.approx({name: each / 60 for name, each in minute.items()})


@pytest.mark.parametrize("pattern", ['{ $.owed = "*" }', '{ ($.message = "owed") && ($.owed >= 0) }'])
def test_a_metric_that_an_idle_line_feeds_is_paid(pattern: str) -> None:
    assert parts(bill("dev", scheduled(FilterPattern=pattern)))["custom metrics"] == 1


def test_a_metric_with_a_default_value_is_paid() -> None:
    transformation = {"MetricValue": "$.oldest_seconds", "DefaultValue": 0}
    assert parts(bill("dev", scheduled(MetricTransformations=[transformation])))["custom metrics"] == 1


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (lambda: scheduled("cron(0 2 * * ? *)"), "Clinic/Minute: the schedule 'cron(0 2 * * ? *)' is no rate"),
        (
            lambda: scheduled(source="night_watch"),
            "what an idle call of lambdas/night_watch does is not in the catalogue",
        ),
        (lambda: stack(Rows=("AWS::DynamoDB::Table", {})), "Clinic/Rows: a table with provisioned capacity"),
        (
            lambda: stack(Tick=("AWS::Events::Rule", {"ScheduleExpression": "rate(1 minute)"})),
            "Clinic/Tick: a rule with a schedule calls its targets also when nothing arrives",
        ),
        (
            lambda: stack(Feed=("AWS::Lambda::EventSourceMapping", {"EventSourceArn": "arn:aws:kinesis:…"})),
            "Clinic/Feed: it is the mapping of something else than a queue",
        ),
        (
            lambda: stack(Live=("AWS::Lambda::Version", {"ProvisionedConcurrencyConfig": {}})),
            "Clinic/Live: provisioned concurrency costs by the hour",
        ),
    ],
)
def test_a_setting_that_costs_and_has_no_price_is_an_error_that_names_it(
    broken: Callable[[], dict[str, Any]], says: str
) -> None:
    with pytest.raises(UnpricedResource) as refused:
        bill("dev", broken())
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


# -- the command


@pytest.fixture
def at_hand(templates: dict[str, Templates], monkeypatch: pytest.MonkeyPatch) -> None:
    """The templates that are here already, in place of a synthesis."""
    monkeypatch.setattr(costs, "synthesized", lambda names: {name: templates[name] for name in names})


@pytest.fixture
def in_the_clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project that is synthesized."""
    project_in(tmp_path / "clinic")
    monkeypatch.setattr(costs, "synthesized", partial(costs.synthesized, project=tmp_path / "clinic"))


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["bill", *arguments])


@pytest.mark.usefixtures("at_hand")
def test_the_command_prints_the_parts_with_their_reasons(bills: dict[str, Bill]) -> None:
    text = run("prod").stdout
    assert re.search(rf"in all +{bills['prod'].listed:.2f} +{bills['prod'].to_pay:.2f}\n", text)
    assert "14 x queue at which Lambda has 5 pollers, a request each 20 s" in text
    assert re.search(r"WebhooksOut +\d\.\d\d\n", text)


@pytest.mark.slow
@pytest.mark.usefixtures("in_the_clinic")
def test_the_command_synthesizes_and_prints_json(bills: dict[str, Bill]) -> None:
    document = json.loads(run("dev", "--json").stdout)
    assert document["listed"] == pytest.approx(bills["dev"].listed, abs=0.0001)
    assert sum(part["after_free"] for part in document["parts"]) == pytest.approx(document["after_free"], abs=0.001)
    assert {each["type"] for each in document["nothing"]} >= {"AWS::IAM::Role", "AWS::Events::Archive"}
    functions = next(each["reason"] for each in document["nothing"] if each["type"] == "AWS::Lambda::Function")
    assert "8.00 a million operations, 0.25 a GB written, 0.15 a GB-month of history kept" in functions


@pytest.mark.slow
def test_an_unknown_environment_is_a_failure_in_one_line() -> None:
    with pytest.raises(Failure, match=r"^no environment 'qa': environments/qa\.toml does not exist"):
        costs.synthesized(["qa"])
