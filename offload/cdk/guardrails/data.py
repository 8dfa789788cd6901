"""Guardrails on what holds data."""

from __future__ import annotations

from collections.abc import Iterator

from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import Templates
from offload.cdk.retention import HOLDS_DATA

# CloudFormation User Guide, "DeletionPolicy attribute" and "UpdateReplacePolicy attribute", read 2026-11-29: the second
# knows no RetainExceptOnCreate.
_RETAINING = {"DeletionPolicy": ("Retain", "RetainExceptOnCreate"), "UpdateReplacePolicy": ("Retain",)}


def _kept_data(templates: Templates) -> Iterator[Finding]:
    if not templates.keep:
        return
    for resource in templates.of_type(*HOLDS_DATA):
        for attribute, retaining in _RETAINING.items():
            policy = resource.attributes.get(attribute, "Delete")
            if policy not in retaining:
                lost = "its stack is deleted" if attribute == "DeletionPolicy" else "an update replaces it"
                yield Finding(
                    resource,
                    f"The environment keeps its data (data.keep), and this {resource.type} has {attribute} {policy}:"
                    f" what it holds is lost when {lost}.",
                    "Leave the removal policy to offload.cdk.retention, which decides it for all types with data.",
                    attribute,
                    about=attribute,
                )


RULES: tuple[Rule, ...] = (
    Rule(
        "kept-data",
        "in an environment that keeps data, a resource that holds some without a retaining DeletionPolicy and"
        " UpdateReplacePolicy",
        _kept_data,
    ),
)
"""The rules of this module."""
