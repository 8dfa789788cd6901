"""PythonFunction, and the functions of an app and of the framework, bundled with the packages that they run with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_cdk import App, Stack
from aws_cdk.assertions import Template

from offload.cdk.bundling import Bundler, Target
from offload.cdk.bundling.lock import compile_lock
from offload.cdk.constructs.python_function import ROOT_CONTEXT, PythonFunction
from offload.cdk.environment import Environment
from offload.contracts.functions import own
from offload.contracts.webhooks_in.stored_secret import PROVIDERS_MODULE
from offload.project import PROJECT
from tests.bundles import ARM, check_its_wheels, check_that_it_imports, held, run_bare, runtime_in, variables_in
from tests.clinics import CLINIC, project_in
from tests.functions import sources

pytestmark = pytest.mark.synthesis

# An App under pytest does not read cdk.json, and would synthesize other templates than a deployment.
FLAGS: dict[str, Any] = json.loads((PROJECT / "cdk.json").read_text())["context"]

# ELF header: e_machine, a half word at offset 18 (the ELF specification's figure 1-3; 183 is EM_AARCH64).
E_MACHINE_AT = 18
EM_AARCH64 = 183


@pytest.fixture(scope="module")
def pydantic_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of one function with compiled dependencies, its own and the library's."""
    root = tmp_path_factory.mktemp("compiled")
    for relative, content in {
        "lambdas/requirements.in": "msgspec\naws-lambda-powertools\n",
        "lambdas/parser/requirements.txt": "pydantic>=2\n",
        "lambdas/parser/handler.py": (
            "from pydantic import BaseModel\nfrom offload.runtime.log import logger\n"
            "class Seen(BaseModel):\n    value: int\n"
            "def handler(event, context):\n    logger.info('seen')\n    return Seen(**event).value\n"
        ),
        "offload/runtime/log.py": "import msgspec\nfrom aws_lambda_powertools import Logger\nlogger = Logger()\n",
    }.items():
        (root / relative).parent.mkdir(parents=True, exist_ok=True)
        (root / relative).write_text(content)
    (root / "lambdas/constraints.txt").write_text(compile_lock(root))
    return root


def test_every_compiled_module_of_an_arm64_bundle_is_aarch64_and_of_python_3_13(pydantic_project: Path) -> None:
    compiled = list(Bundler(pydantic_project).bundle("parser", ARM).path.rglob("*.so"))
    names = " ".join(path.name for path in compiled)
    assert "_pydantic_core" in names
    assert "_core.cpython-313-aarch64-linux-gnu.so" in names
    for path in compiled:
        header = path.read_bytes()[:20]
        assert header[:4] == b"\x7fELF"
        assert int.from_bytes(header[E_MACHINE_AT:], "little") == EM_AARCH64, path.name


def test_a_bundle_with_compiled_dependencies_runs_in_a_bare_interpreter_with_nothing_else_on_the_path(
    pydantic_project: Path,
) -> None:
    bundle = Bundler(pydantic_project).bundle("parser", Target.of("host", "host"))
    code = "from lambdas.parser.handler import handler\nprint('value', handler({'value': '7'}, None))"
    done = run_bare(code, bundle.path)
    assert done.returncode == 0, done.stderr
    assert "value 7" in done.stdout.splitlines()


def test_the_same_inputs_make_the_same_files_byte_for_byte(pydantic_project: Path, tmp_path: Path) -> None:
    made = [Bundler(pydantic_project, cache=tmp_path / name).bundle("parser", ARM) for name in ("one", "two")]
    trees = [{p.relative_to(b.path): p.read_bytes() for p in b.path.rglob("*") if p.is_file()} for b in made]
    assert trees[0] == trees[1]


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that is the clinic."""
    root = tmp_path_factory.mktemp("project") / "clinic"
    project_in(root)
    return root


@pytest.fixture(scope="module")
def variables(clinic_of: Callable[[str], Path]) -> dict[str, dict[str, str]]:
    """By function, the environment variables that the clinic gives it."""
    return variables_in(clinic_of("local"))


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runtime_in(tmp_path_factory.mktemp("runtime"))


@pytest.mark.parametrize("source", sources(CLINIC))
def test_each_bundle_imports_its_handler_in_a_bare_interpreter_beside_the_runtimes_boto3(
    source: str, clinic: Path, variables: dict[str, dict[str, str]], runtime: Path
) -> None:
    check_that_it_imports(clinic, source, variables[source], runtime)


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("visit_ledger", {"ledger.py", "contracts/visits.py"}),
        ("supply_levels", {"contracts/supplies.py", "contracts/visits.py"}),
        ("ward_report", {"ledger.py", "contracts/jobs.py", "contracts/visits.py"}),
        ("visit_import", {"contracts/jobs.py", "contracts/visits.py"}),
        ("patient_groups", {"contracts/jobs.py"}),
        ("patients_shard", {"contracts/jobs.py"}),
    ],
)
def test_a_function_has_the_modules_of_the_app_that_it_reaches_and_not_its_catalogue(
    source: str, modules: set[str], clinic: Path
) -> None:
    packages = {"__init__.py", "contracts/__init__.py"}
    assert held(Bundler(clinic).bundle(source, ARM).path, "clinic") == {f"clinic/{name}" for name in modules | packages}


def test_the_receiver_of_webhooks_has_the_providers_and_nothing_else_of_the_catalogue(
    clinic: Path, variables: dict[str, dict[str, str]]
) -> None:
    receiver = own("webhook_receiver")
    reaches = [variables[receiver][PROVIDERS_MODULE]]
    assert held(Bundler(clinic).bundle(receiver, ARM, reaches=reaches).path, "clinic") == {
        "clinic/__init__.py",
        "clinic/contracts/__init__.py",
        "clinic/contracts/laboratory.py",
        "clinic/providers.py",
    }


@pytest.mark.parametrize("source", sources(CLINIC))
def test_each_function_has_its_wheels_for_aws(source: str, clinic: Path) -> None:
    check_its_wheels(clinic, source)


def stack_of(root: Path, environment: str, tmp_path: Path, **context: Any) -> dict[str, Any]:
    app = App(outdir=str(tmp_path), context={**FLAGS, ROOT_CONTEXT: str(root), **context})
    Environment.filled_in(environment).attach(app)
    stack = Stack(app, "Stack")
    PythonFunction(stack, "Parser", source="parser", environment={"COLOUR": "red"})
    return dict(Template.from_stack(stack).to_json())


def function_in(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = [r for r in template["Resources"].values() if r["Type"] == "AWS::Lambda::Function"]
    return dict(found["Properties"])


def test_a_function_has_a_log_group_and_a_role_of_its_own_and_may_write_to_that_log_group_alone(
    pydantic_project: Path, tmp_path: Path
) -> None:
    template = Template.from_json(stack_of(pydantic_project, "dev", tmp_path, **{"aws:cdk:bundling-stacks": []}))
    template.resource_count_is("AWS::Logs::LogGroup", 1)
    template.resource_count_is("AWS::Lambda::Function", 1)
    (log_group,) = template.find_resources("AWS::Logs::LogGroup")
    (role,) = template.find_resources("AWS::IAM::Role").values()
    assert "ManagedPolicyArns" not in role["Properties"]
    (policy,) = template.find_resources("AWS::IAM::Policy").values()
    assert policy["Properties"]["PolicyDocument"]["Statement"] == [
        {
            "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
            "Effect": "Allow",
            "Resource": {"Fn::GetAtt": [log_group, "Arn"]},
        }
    ]
    properties = function_in(dict(template.to_json()))
    assert properties["LoggingConfig"] == {"LogGroup": {"Ref": log_group}}
    assert (properties["Timeout"], properties["MemorySize"]) == (10, 256)
    assert (properties["Runtime"], properties["Architectures"]) == ("python3.13", ["arm64"])
    assert properties["Handler"] == "lambdas.parser.handler.handler"
    assert properties["Environment"] == {"Variables": {"COLOUR": "red"}}


@pytest.mark.parametrize(("environment", "policy"), [("dev", "Delete"), ("prod", "RetainExceptOnCreate")])
def test_logs_are_kept_on_delete_where_the_environment_keeps_data(
    pydantic_project: Path, tmp_path: Path, environment: str, policy: str
) -> None:
    template = stack_of(pydantic_project, environment, tmp_path, **{"aws:cdk:bundling-stacks": []})
    (log_group,) = [r for r in template["Resources"].values() if r["Type"] == "AWS::Logs::LogGroup"]
    assert log_group["DeletionPolicy"] == policy
    assert log_group["Properties"]["RetentionInDays"] == Environment.filled_in(environment).functions.log_retention_days


def test_two_checkouts_synthesize_the_same_template_with_the_same_asset(pydantic_project: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "far" / "away"
    shutil.copytree(pydantic_project, elsewhere, ignore=shutil.ignore_patterns(".offload"))
    here = stack_of(pydantic_project, "dev", tmp_path / "one")
    there = stack_of(elsewhere, "dev", tmp_path / "two")
    assert here == there
    assert function_in(here)["Code"]["S3Key"].endswith(".zip")


def test_a_template_is_made_without_installing_or_even_looking_at_a_function_when_bundling_is_off(
    pydantic_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uv.find_uv_bin", lambda: "/nonexistent/uv")
    empty = tmp_path / "empty"
    off = stack_of(empty, "dev", tmp_path / "off", **{"aws:cdk:bundling-stacks": []})
    on = stack_of(pydantic_project, "dev", tmp_path / "on")
    assert function_in(off).keys() == function_in(on).keys()
    assert {path.name for path in (empty / ".offload/bundles").iterdir()} == {"placeholder"}


def test_the_template_of_a_function_that_runs_on_the_host_names_no_property_of_the_host(
    pydantic_project: Path, tmp_path: Path
) -> None:
    properties = function_in(stack_of(pydantic_project, "local", tmp_path))
    assert (properties["Runtime"], properties["Architectures"]) == ("python3.13", ["arm64"])
