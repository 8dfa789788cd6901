"""Guardrails of alarms: that one goes off when it should, and that somebody is told."""

from __future__ import annotations

from collections.abc import Iterator

from offload.cdk.guardrails.rule import Finding, Rule
from offload.cdk.guardrails.templates import Templates

ALARMS = ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm")


def _alarm_action(templates: Templates) -> Iterator[Finding]:
    for alarm in templates.of_type(*ALARMS):
        if not alarm.properties.get("AlarmActions"):
            yield Finding(
                alarm,
                "Nobody is told when this alarm goes off: it has no action.",
                "Make the app's Operators (offload/cdk/constructs/operators.py): every alarm of the app is theirs."
                if templates.alarmed
                else "Set `[alarms] email` in the environment's file, or leave the alarm out.",
                "Properties/AlarmActions",
            )
        elif alarm.properties.get("ActionsEnabled") in (False, "false"):
            yield Finding(
                alarm,
                "Nobody is told when this alarm goes off: its actions are switched off.",
                "Take ActionsEnabled out (actions_enabled).",
                "Properties/ActionsEnabled",
            )


def _alarm_on_missing_data(templates: Templates) -> Iterator[Finding]:
    for alarm in templates.of_type("AWS::CloudWatch::Alarm"):
        if alarm.properties.get("TreatMissingData") == "breaching":
            yield Finding(
                alarm,
                "The alarm goes off as soon as it is made: missing data is trouble to it, and a new one has no data.",
                "Set treat_missing_data to MISSING: silence is told of once there has been data, by the alarm's"
                " INSUFFICIENT_DATA. NOT_BREACHING where silence is no trouble.",
                "Properties/TreatMissingData",
            )


RULES = (
    Rule("alarm-action", "an alarm without an action, or whose actions are switched off", _alarm_action),
    Rule("alarm-on-missing-data", "an alarm that takes missing data for trouble (`breaching`)", _alarm_on_missing_data),
)
"""The rules of this module."""
