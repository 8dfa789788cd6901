"""What is refused when the app is synthesized, before it can fail in production: docs/guardrails.md."""

from offload.cdk.guardrails.plugin import RULES, Guardrails, guard, synthesize

__all__ = ["RULES", "Guardrails", "guard", "synthesize"]
