"""From the app to the embedded AWS: synthesized and deployed by the CDK's own command line.

What the emulator refuses is taken out of a copy of the assembly, never out of the constructs; `patches.py` does by API
what was taken out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from offload.cli.deployment.aws import LOCAL, Aws, shell_settings
from offload.cli.deployment.failure import Failure
from offload.cli.local.patches import archive_name
from offload.cli.local.process import ACCOUNT, REGION, Instance
from offload.project import PROJECT

SYNTH_WITHIN = 600.0
"""Seconds; the first one downloads the functions' packages, every other takes about five."""
BOOTSTRAP_WITHIN = 300.0
"""Seconds; seen 2."""
DEPLOY_WITHIN = 600.0
"""Seconds; seen 1 to 3. A custom resource that fails never answers, and the deploy would wait for it for ever."""

_ARCHIVE = "AWS::Events::Archive"
LEFT_OUT: Mapping[str, str] = {
    _ARCHIVE: "made by API after the deploy",
    "AWS::CloudWatch::CompositeAlarm": "not there locally; the alarms that it combines are",
    "AWS::CodeDeploy::Application": "not there locally; a deploy shifts all traffic at once",
    "AWS::CodeDeploy::DeploymentGroup": "not there locally; a deploy shifts all traffic at once",
}
"""Resource types that MiniStack 1.5.33's CloudFormation refuses (tried 2026-11-23), and what becomes of them."""

UNKNOWN_CONDITIONS: Sequence[str] = ("events:source",)
"""Condition keys that MiniStack 1.5.33 does not fill in (tried 2026-11-23): with them it denies what AWS allows."""

_METRIC_MATH = "not there locally: the emulator has no metric math"
_LINES_SHOWN = 20
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_UNUSED_METADATA = ("aws:cdk:analytics:", "aws:cdk:creationStack", "aws:cdk:acknowledged-rules")
_WRITTEN_HERE = frozenset({"manifest.json"})


@dataclass(frozen=True)
class TakenOut:
    """One resource that is not deployed to the emulator: whose, of what type, and what becomes of it."""

    stack: str
    path: str
    type: str
    reason: str


def synthesize(into: Path, *, project: Path = PROJECT) -> None:
    """Synthesizes the environment `local` into the folder `into`, as `make synth ENV=local` does.

    Neither credentials nor a running emulator are needed. Raises Failure with the command's own words.
    """
    arguments = ["synth", "--quiet", "--context", f"environment={LOCAL}", "--output", str(into)]
    _cdk(arguments, _without_aws(), SYNTH_WITHIN, project)


def copy_for_emulator(assembly: Path, into: Path, *, account: str = ACCOUNT, region: str = REGION) -> list[TakenOut]:
    """Copies a synthesized assembly to the folder `into`, without the resources that the emulator refuses.

    What else mentions such a resource goes with it if nothing depends on that: DependsOn, an update policy, an output
    that is not exported. Who asks for an archive's ARN is given the one that it will have in the account and Region.
    Raises Failure naming resource and referrer where something would miss it.
    """
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    # The command line packs the functions' code into it, unless that was done at an earlier deploy.
    (assembly / ".cache").mkdir(exist_ok=True)
    templates = sorted(assembly.glob("*.template.json"))
    renamed: dict[str, str] = {}
    taken_out: list[TakenOut] = []
    for path in templates:
        template = json.loads(path.read_text(encoding="utf-8"))
        stack = path.name.removesuffix(".template.json")
        taken_out += _take_out(stack, template, f"arn:aws:events:{region}:{account}:archive/")
        content = json.dumps(template, indent=1)
        (into / path.name).write_text(content, encoding="utf-8")
        renamed[_asset_of(assembly / f"{stack}.assets.json", path.name)] = hashlib.sha256(content.encode()).hexdigest()
    for path in assembly.iterdir():
        if path in templates:
            continue
        if path.name.endswith(".metadata.json"):
            (into / path.name).write_text(json.dumps(_metadata_of_use(path)), encoding="utf-8")
        elif path.name in _WRITTEN_HERE or path.name.endswith(".assets.json"):
            # The command line does not upload a template again under a name that is there already.
            text = path.read_text(encoding="utf-8")
            for before, after in renamed.items():
                text = text.replace(before, after)
            (into / path.name).write_text(text, encoding="utf-8")
        else:
            (into / path.name).symlink_to(path.resolve())
    return taken_out


def bootstrap(aws: Aws, assembly: Path, *, project: Path = PROJECT) -> bool:
    """Makes what the CDK needs in an account, if it is not there yet; returns whether it had to.

    `aws` must be an embedded one. Raises Failure with the command's own words.
    """
    for page in aws.cloudformation.get_paginator("describe_stacks").paginate():
        for stack in page["Stacks"]:
            if stack["StackName"] == "CDKToolkit" and stack["StackStatus"] in {"CREATE_COMPLETE", "UPDATE_COMPLETE"}:
                return False
    arguments = ["bootstrap", f"aws://{aws.account}/{aws.region}", "--app", str(assembly)]
    _cdk(arguments, _with(aws), BOOTSTRAP_WITHIN, project)
    return True


def deploy(aws: Aws, assembly: Path, *, project: Path = PROJECT) -> None:
    """Deploys every stack of an assembly (one made by `copy_for_emulator`) to an embedded AWS.

    The command line compares and leaves alone what did not change. Raises Failure with the command's own words.
    """
    arguments = ["deploy", "--all", "--app", str(assembly), "--require-approval", "never", "--progress", "events"]
    # Nobody looks at a change set here, and making and comparing it takes a third of the whole.
    arguments += ["--method", "direct"]
    _cdk(arguments, _with(aws), DEPLOY_WITHIN, project)


def _metadata_of_use(path: Path) -> dict[str, Any]:
    """A stack's metadata without what no deploy uses: the command line reads all of it again at every event."""
    metadata: dict[str, list[dict[str, Any]]] = json.loads(path.read_text(encoding="utf-8"))
    used = {
        construct: [entry for entry in entries if not str(entry["type"]).startswith(_UNUSED_METADATA)]
        for construct, entries in metadata.items()
    }
    return {construct: entries for construct, entries in used.items() if entries}


def _take_out(stack: str, template: dict[str, Any], archives: str) -> list[TakenOut]:
    """Takes what the emulator refuses out of `template`, in place; `archives` is what an archive's ARN begins with."""
    resources: dict[str, Any] = template.get("Resources", {})
    refused = {logical_id: reason for logical_id, body in resources.items() if (reason := _refusal(body))}
    taken_out = [
        TakenOut(stack, _path(logical_id, resources[logical_id]), resources[logical_id]["Type"], reason)
        for logical_id, reason in refused.items()
    ]
    known = {
        logical_id: archives + archive_name(stack, logical_id, body["Properties"])
        for logical_id, body in resources.items()
        if body["Type"] == _ARCHIVE
    }
    for logical_id in refused:
        del resources[logical_id]
    for part in ("Resources", "Outputs"):
        if part in template:
            template[part] = _with_arns(template[part], known)
    resources = template.get("Resources", {})
    for body in resources.values():
        if body["Type"].startswith("AWS::IAM::"):
            _drop_conditions(body.get("Properties", {}))
    for logical_id, body in resources.items():
        _drop_dependencies(body, refused)
        if set(_mentions(body.get("UpdatePolicy", {}))) & refused.keys():
            del body["UpdatePolicy"]
        _must_not_mention(f"{stack}: {_path(logical_id, body)}", body, refused)
    outputs: dict[str, Any] = template.get("Outputs", {})
    for name in list(outputs):
        if "Export" not in outputs[name] and set(_mentions(outputs[name])) & refused.keys():
            del outputs[name]
        else:
            _must_not_mention(f"{stack}: output {name}", outputs[name], refused)
    return taken_out


def _with_arns(body: Any, known: Mapping[str, str]) -> Any:
    """A part of a template, in which what asks for the ARN of a resource that is made later has it."""
    if isinstance(body, list):
        return [_with_arns(item, known) for item in body]
    if not isinstance(body, dict):
        return body
    match body.get("Fn::GetAtt"):
        case [str(logical_id), "Arn"] if logical_id in known:
            return known[logical_id]
    return {key: _with_arns(value, known) for key, value in body.items()}


def _refusal(resource: Mapping[str, Any]) -> str | None:
    kind = str(resource["Type"])
    if kind == "AWS::CloudWatch::Alarm" and "Metrics" in resource.get("Properties", {}):
        return _METRIC_MATH
    return LEFT_OUT.get(kind)


def _drop_conditions(body: Any) -> None:
    """Leaves the conditions on keys that the emulator does not know out of every statement below, in place."""
    if isinstance(body, list):
        for item in body:
            _drop_conditions(item)
        return
    if not isinstance(body, dict):
        return
    if isinstance(conditions := body.get("Condition"), dict) and "Effect" in body:
        kept = {
            operator: known
            for operator, keys in conditions.items()
            if (known := {key: value for key, value in keys.items() if key.lower() not in UNKNOWN_CONDITIONS})
        }
        if kept:
            body["Condition"] = kept
        else:
            del body["Condition"]
    for value in body.values():
        _drop_conditions(value)


def _drop_dependencies(resource: dict[str, Any], gone: Mapping[str, str]) -> None:
    depends_on = resource.get("DependsOn")
    if depends_on is None:
        return
    names = [depends_on] if isinstance(depends_on, str) else depends_on
    kept = [name for name in names if name not in gone]
    if kept:
        resource["DependsOn"] = kept
    else:
        del resource["DependsOn"]


def _must_not_mention(where: str, body: object, gone: Mapping[str, str]) -> None:
    for logical_id in _mentions(body):
        if logical_id in gone:
            raise Failure(
                f"{where} refers to {logical_id}, which the embedded AWS cannot have ({gone[logical_id]}); "
                "give the constructs another way for `local`, or fix it in offload/cli/local"
            )


def _mentions(body: object) -> Iterator[str]:
    """The logical ids that a part of a template refers to."""
    if isinstance(body, list):
        for item in body:
            yield from _mentions(item)
    elif isinstance(body, dict):
        for key, value in body.items():
            if key == "Ref" and isinstance(value, str):
                yield value
            elif key == "Fn::GetAtt":
                yield str(value[0] if isinstance(value, list) else str(value).partition(".")[0])
            elif key == "Fn::Sub":
                text = value[0] if isinstance(value, list) else value
                yield from re.findall(r"\$\{([A-Za-z0-9]+)(?:\.[A-Za-z0-9.]+)?\}", text)
                yield from _mentions(value)
            else:
                yield from _mentions(value)


def _path(logical_id: str, resource: Mapping[str, Any]) -> str:
    path = str(resource.get("Metadata", {}).get("aws:cdk:path", logical_id))
    return path.partition("/")[2].removesuffix("/Resource") or path


def _asset_of(assets: Path, template: str) -> str:
    """The hash under which a stack's template is uploaded."""
    for asset, content in json.loads(assets.read_text(encoding="utf-8"))["files"].items():
        if content["source"].get("path") == template:
            return str(asset)
    raise Failure(f"{assets}: no entry for {template}; synthesize anew")


def _instance_of(aws: Aws) -> Instance:
    if aws.instance is None:
        raise Failure(f"environment {aws.environment} is not the embedded AWS: deploy it with `make deploy`")
    return aws.instance


def _without_aws() -> dict[str, str]:
    """The shell's environment (package index, certificates, proxies) without its AWS account."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "CDK_"))}
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _with(aws: Aws) -> dict[str, str]:
    """The shell's environment with the embedded AWS for account, reached without a proxy."""
    kept = {name: value for name, value in _without_aws().items() if not name.lower().endswith("_proxy")}
    return kept | shell_settings(_instance_of(aws), aws.account, aws.region)


def _cdk(arguments: Sequence[str], environment: dict[str, str], within: float, project: Path) -> None:
    """Runs the CDK command line; raises Failure with its own words when it fails or takes longer than `within`."""
    node, command = project / ".venv" / "bin" / "node", project / "node_modules" / ".bin" / "cdk"
    for needed in (node, command):
        if not needed.exists():
            raise Failure(f"the toolchain is not installed: {needed} is missing; run `make toolchain`")
    environment = environment | {
        "PATH": f"{project / '.venv' / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "CDK_DISABLE_CLI_TELEMETRY": "true",
        "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
        "NO_COLOR": "1",
        "FORCE_COLOR": "0",
    }
    # A group of its own: a hung command is ended with everything that it started.
    process = subprocess.Popen(
        [node, command, "--no-notices", *arguments],
        env=environment,
        cwd=project,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        output = _ended_by_force(process)
        raise Failure(f"`cdk {arguments[0]}` was not done after {within:.0f} s:\n{_worth_showing(output)}") from None
    except BaseException:
        _ended_by_force(process)
        raise
    if process.returncode != 0:
        raise Failure(f"`cdk {arguments[0]}` failed:\n{_worth_showing(output)}")


def _ended_by_force(process: subprocess.Popen[bytes]) -> bytes:
    os.killpg(process.pid, signal.SIGKILL)
    output, _ = process.communicate()
    return output


def _worth_showing(output: bytes) -> str:
    """The end of the command's output: from its first error on, if it marks one, without what went well."""
    lines = [_TERMINAL_CODES.sub("", line).rstrip() for line in output.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and "_COMPLETE " not in line and "_IN_PROGRESS " not in line]
    marks = ("❌", "CREATE_FAILED", "UPDATE_FAILED", "Validation Report", "Error:")
    first = next((number for number, line in enumerate(lines) if any(mark in line for mark in marks)), None)
    shown = lines[first:] if first is not None else lines[-_LINES_SHOWN:]
    return "\n".join(f"  {line}" for line in shown)
