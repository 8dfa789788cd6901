"""What the team is told of: where it is collected, and who looks each minute whether it has been told."""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_logs as logs
from constructs import Construct

from offload.cdk import Access, PythonFunction, Table, alarm_on_log, call_each_minute

_BEHIND = Duration.minutes(30)


class Notices(Construct):
    """The events that the team has not been told of, an item a topic."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.topics = Table(self, "Topics", sort_key=False)

    @property
    def write(self) -> Access:
        """May add to topics, and take off what has been told."""
        return Access(
            lambda grantee: self.topics.allow(grantee, "GetItem", "UpdateItem"),
            {"NOTICES_TABLE": self.topics.table_name},
        )

    def tell_each_minute(self, function: PythonFunction) -> None:
        """Lets the notifier tell each minute what came since its last message, with alarms for when it does not."""
        call_each_minute(
            self,
            function,
            "Notifier",
            stopped="The team has not been told of anything for five minutes: offload logs team_notifier",
            failed="What the team should be told of cannot be read: offload logs team_notifier",
        )
        alarm_on_log(
            self,
            "OldestNotice",
            log_group=function.log_group,
            pattern=logs.FilterPattern.exists("$.oldest_seconds"),
            metric="OldestNotice",
            value="$.oldest_seconds",
            alarm="BehindAlarm",
            says="Slack does not take messages to the team: offload logs team_notifier",
            threshold=_BEHIND.to_seconds(),
            within=Duration.minutes(1),
            statistic="Maximum",
        )
