"""The shop's exchange rates: where they are kept, and how it is told that they are old."""

from __future__ import annotations

from typing import Final

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_logs as logs
from constructs import Construct

from offload.cdk import Access, PythonFunction, Table, alarm_on_log

FILES: Final = {
    "RATES_DAILY_URL": "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml",
    "RATES_HISTORY_URL": "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist-90d.xml",
}
"""Where the bank has its rates of the day and of the last 90, as variables of the function that fetches them."""

# shop/rates.py: what is further behind is stale on every read.
_STALE_AFTER: Final = 2


class ExchangeRates(Construct):
    """The European Central Bank's reference rates, an item a day."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.days = Table(self, "Days")
        self.variables = {"RATES_TABLE": self.days.table_name}

    @property
    def write(self) -> Access:
        """May read rates and add some."""
        return Access(lambda grantee: self.days.allow(grantee, "PutItem", "Query"), self.variables)

    @property
    def read(self) -> Access:
        """May read rates."""
        return Access(lambda grantee: self.days.allow(grantee, "Query"), self.variables)

    def alarm_when_stale(self, function: PythonFunction) -> cloudwatch.Alarm:
        """An alarm for when the function that fetches them says that they are too far behind the bank."""
        return alarm_on_log(
            self,
            "DaysBehind",
            log_group=function.log_group,
            pattern=logs.FilterPattern.exists("$.rates_days_behind"),
            metric="ExchangeRatesDaysBehind",
            value="$.rates_days_behind",
            alarm="StaleAlarm",
            says="The exchange rates are working days behind the bank: offload rates show",
            threshold=_STALE_AFTER,
            comparison=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            within=Duration.hours(6),
            statistic="Minimum",
        )
