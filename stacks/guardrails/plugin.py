"""The guardrails as a validation plugin of the CDK, and the end of a synthesis that they refuse."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsii
from aws_cdk import (
    App,
    IPolicyValidationContext,
    IPolicyValidationPlugin,
    PolicyValidationPluginReport,
    PolicyViolatingResource,
    PolicyViolation,
    Stack,
    Validations,
)
from cdk_nag import AwsSolutionsChecks
from constructs import IConstruct

from stacks.guardrails import access, functions, queues
from stacks.guardrails.rule import PLUGIN, Finding, Rule
from stacks.guardrails.templates import Template, Templates

RULES: tuple[Rule, ...] = (*queues.RULES, *functions.RULES, *access.RULES)
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
        templates = Templates(
            [
                Template(
                    stack.template_path,
                    _stack_name(context.app_construct, stack.stack_construct_path),
                    json.loads(Path(stack.template_path).read_text(encoding="utf-8")),
                )
                for stack in context.stack_templates
            ]
        )
        violations = [_violation(rule, finding) for rule in RULES for finding in rule.findings(templates)]
        return PolicyValidationPluginReport(success=not violations, violations=violations)


def guard(app: App) -> None:
    """Makes synthesis of `app` refuse what breaks a guardrail or a rule of cdk-nag's AWS Solutions.

    CloudFormation's own schemas are checked by the CDK itself, as errors by a flag in cdk.json.
    """
    Validations.of(app).add_plugins(Guardrails(), AwsSolutionsChecks(app))


def synthesize(app: App) -> None:
    """Synthesizes `app`. A refusal ends the process with the report alone: no traceback, exit code 1."""
    try:
        app.synth()
    except RuntimeError as error:
        # jsii hands over a JavaScript error as its name and message; the report itself is already on stderr.
        name, _, message = str(error).partition(": ")
        if name != "ValidationFailed":
            raise
        sys.exit(message)


def _stack_name(root: IConstruct, path: str) -> str:
    construct = root
    for child in path.split("/"):
        construct = construct.node.find_child(child)
    return construct.stack_name if isinstance(construct, Stack) else path


def _violation(rule: Rule, finding: Finding) -> PolicyViolation:
    return PolicyViolation(
        rule_name=rule.id if finding.about is None else f"{rule.id}[{finding.about}]",
        description=finding.says,
        fix=finding.mend,
        severity="error",
        violating_resources=[
            PolicyViolatingResource(
                resource_logical_id=finding.resource.logical_id,
                template_path=finding.resource.template.path,
                locations=[finding.location],
            )
        ],
    )
