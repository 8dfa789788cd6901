"""The guardrails as a validation plugin of the CDK, and the end of a synthesis that they refuse."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import jsii
from aws_cdk import (
    App,
    IPolicyValidationContext,
    IPolicyValidationPlugin,
    PolicyValidationPluginReport,
    PolicyValidationStack,
    PolicyViolatingResource,
    PolicyViolation,
    Stack,
    Token,
    Validations,
)
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct

from offload.cdk.environment import Environment, UnusableEnvironment
from offload.cdk.guardrails import access, admission, alarms, data, encryption, functions, limits, queues
from offload.cdk.guardrails.rule import PLUGIN, Finding, Rule
from offload.cdk.guardrails.templates import Template, Templates

RULES: tuple[Rule, ...] = (
    *queues.RULES,
    *functions.RULES,
    *access.RULES,
    *admission.RULES,
    *alarms.RULES,
    *data.RULES,
    *encryption.RULES,
    *limits.RULES,
)
"""Every guardrail; docs/guardrails.md has a row for each."""


@jsii.implements(IPolicyValidationPlugin)
class Guardrails:
    """The guardrails, for `Validations.of(app).add_plugins(...)`."""

    # The CDK reads these from JavaScript: it sees properties, not attributes.
    @property
    def name(self) -> str:
        """What stands before `::` in the ids that people acknowledge."""
        return PLUGIN

    @property
    def version(self) -> str:
        """The rules' version in validation-report.json."""
        return "1.0.0"

    @property
    def rule_ids(self) -> list[str]:
        """The ids of all rules."""
        return [rule.id for rule in RULES]

    def validate(self, context: IPolicyValidationContext) -> PolicyValidationPluginReport:
        """What is wrong with the templates, one violation a finding, so that each shows its own figures."""
        templates = _templates(context)
        violations = [_violation(rule, finding) for rule in RULES for finding in rule.findings(templates)]
        return PolicyValidationPluginReport(success=not violations, violations=violations)


@jsii.implements(IPolicyValidationPlugin)
class AwsSolutions:
    """cdk-nag's AWS Solutions, with findings that can be acknowledged where a construct grants.

    cdk-nag writes a resource of another stack as the JSON of the reference, which differs between environments and is
    not known before synthesis; here it is written as cdk-nag writes one of the same stack: `<LogicalId.Arn>/claims/*`.
    """

    def __init__(self, app: App) -> None:
        self._checks = AwsSolutionsChecks(app)

    @property
    def name(self) -> str:
        """What stands before `::` in the ids that people acknowledge."""
        return "AwsSolutions"

    @property
    def version(self) -> str:
        """The version of cdk-nag."""
        return version("cdk-nag")

    @property
    def rule_ids(self) -> list[str]:
        """cdk-nag keeps its list to itself."""
        return []

    def validate(self, context: IPolicyValidationContext) -> PolicyValidationPluginReport:
        """What cdk-nag finds in the construct tree."""
        report = self._checks.validate_scope(context.app_construct)
        templates = _templates(context)
        return PolicyValidationPluginReport(
            success=report.success,
            violations=[
                PolicyViolation(
                    rule_name=_reference_by_name(templates, violation.rule_name),
                    description=violation.description,
                    severity=violation.severity,
                    violating_resources=violation.violating_resources,
                )
                for violation in report.violations
            ],
        )


def guard(app: App) -> None:
    """Makes synthesis of `app` refuse what breaks a guardrail or a rule of cdk-nag's AWS Solutions.

    CloudFormation's own schemas are checked by the CDK itself, as errors by a flag in cdk.json.
    """
    Validations.of(app).add_plugins(Guardrails(), AwsSolutions(app))


def synthesize(app: App, *, on_aws: bool = False) -> None:
    """Synthesizes `app`. A refusal ends the process with the report alone: no traceback, exit code 1.

    Of an app that goes to an account `on_aws`, a line on stderr says when a new account runs less at once.
    """
    try:
        assembly = app.synth()
    except RuntimeError as error:
        # jsii hands over a JavaScript error as its name and message; the report itself is already on stderr.
        name, _, message = str(error).partition(": ")
        if name != "ValidationFailed":
            raise
        sys.exit(message)
    if not on_aws:
        return
    stacks = [Template(stack.template_full_path, stack.stack_name, stack.template) for stack in assembly.stacks]
    if note := limits.concurrency_note(Templates(stacks)):
        print(f"offload: {note}", file=sys.stderr)


def _templates(context: IPolicyValidationContext) -> Templates:
    return Templates(
        [_template(context.app_construct, stack) for stack in context.stack_templates],
        alarmed=_alarmed(context.app_construct),
        kms_key=_kms_key(context.app_construct),
        keep=_keeps_data(context.app_construct),
    )


def _template(root: IConstruct, found: PolicyValidationStack) -> Template:
    body = json.loads(Path(found.template_path).read_text(encoding="utf-8"))
    construct = root
    for child in found.stack_construct_path.split("/"):
        construct = construct.node.find_child(child)
    if not isinstance(construct, Stack):
        return Template(found.template_path, found.stack_construct_path, body)
    account, region = (None if Token.is_unresolved(each) else each for each in (construct.account, construct.region))
    return Template(found.template_path, construct.stack_name, body, account, region)


def _alarmed(app: IConstruct) -> bool:
    """Whether somebody is told of alarms; taken for granted in an app without an environment."""
    try:
        return Environment.of(app).alarms.email is not None
    except UnusableEnvironment:
        return True


def _kms_key(root: IConstruct) -> str | None:
    try:
        return Environment.of(root).data.kms_key
    except UnusableEnvironment:  # an app without one, as in tests of other rules
        return None


def _keeps_data(root: IConstruct) -> bool:
    try:
        return Environment.of(root).data.keep
    except UnusableEnvironment:
        return False


def _reference_by_name(templates: Templates, rule: str) -> str:
    # An import is only its export's name in cdk-nag's wording, a weak reference is JSON.
    for name, refers in templates.exports.items():
        rule = rule.replace(name, refers)
    start = rule.find('{"Fn::')
    if start < 0:
        return rule
    try:
        value, end = json.JSONDecoder().raw_decode(rule, start)
    except json.JSONDecodeError:
        # cdk-nag's own wording is shown as it is: such a finding is still refused, it is only long.
        return rule
    return rule[:start] + (templates.named(value) or rule[start:end]) + rule[end:]


def _violation(rule: Rule, finding: Finding) -> PolicyViolation:
    return PolicyViolation(
        rule_name=rule.id if finding.about is None else f"{rule.id}[{finding.about}]",
        description=finding.says,
        fix=finding.fix,
        severity="error",
        violating_resources=[
            PolicyViolatingResource(
                resource_logical_id=finding.resource.logical_id,
                template_path=finding.resource.template.path,
                locations=[finding.location],
            )
        ],
    )
