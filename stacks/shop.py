"""The shop's functions: what they listen to, what they may touch."""

from __future__ import annotations

from aws_cdk import Duration
from constructs import Construct

from offload.cdk import (
    BackgroundJob,
    Environment,
    EnvironmentStack,
    EventConsumer,
    Integration,
    MonolithAccess,
    Platform,
    WebhookReceiver,
    WebhookSender,
)
from offload.contracts.jobs.events import JobFinished
from offload.contracts.webhooks_in.providers import (
    GITHUB,
    SHOPIFY,
    SLACK,
    STANDARD_WEBHOOKS,
    STRIPE,
    SVIX,
)
from offload.contracts.webhooks_out.events import SubscriptionPaused
from shop.contracts.github import RELEASES, PullRequestClosed
from shop.contracts.jobs.customer_segments import CUSTOMER_SEGMENTS, CUSTOMERS_SHARD
from shop.contracts.jobs.exchange_rates import EXCHANGE_RATES
from shop.contracts.jobs.order_import import ORDER_IMPORT
from shop.contracts.jobs.sales_report import SALES_REPORT
from shop.contracts.orders import OrderCancelled, OrderPlaced
from shop.contracts.stock import StockLow
from shop.contracts.warehouse import WAREHOUSE
from shop.settings import Stock
from stacks.change_log import ChangeLog
from stacks.exchange_rates import FILES, ExchangeRates
from stacks.ledger import Ledger, StockLevels
from stacks.team_notifier import Notices

_SENDERS = {
    "GitHub": GITHUB,
    "Stripe": STRIPE,
    "Slack": SLACK,
    "Shopify": SHOPIFY,
    "StandardWebhooks": STANDARD_WEBHOOKS,
    "Svix": SVIX,
    "Warehouse": WAREHOUSE,
}


class Shop(EnvironmentStack):
    """A list of use cases."""

    def __init__(self, scope: Construct, construct_id: str, *, platform: Platform) -> None:
        super().__init__(scope, construct_id)
        stock = Environment.of(self).section("stock", Stock)
        ledger = Ledger(self, "Ledger")
        levels = StockLevels(self, "StockTable")
        EventConsumer(
            self,
            "SalesLedger",
            source="sales_ledger",
            events=(OrderPlaced, OrderCancelled),
            bus=platform.bus,
            grants=(ledger.write,),
        )
        EventConsumer(
            self,
            "StockLevels",
            source="stock_levels",
            events=(OrderPlaced, OrderCancelled),
            bus=platform.bus,
            grants=(levels.write, platform.bus.publish(StockLow)),
            variables={"STOCK_OPENING_UNITS": str(stock.opening_units), "STOCK_LOW_BELOW": str(stock.low_below)},
            # Every batch touches most shelves: more at once would only meet each other.
            concurrency=2,
        )
        EventConsumer(
            self,
            "ReleaseNotes",
            source="release_notes",
            events=(*RELEASES, PullRequestClosed),
            bus=platform.bus,
            grants=(ChangeLog(self, "ChangeLog").write,),
            # The webhooks of one release come together, and are about the same page.
            concurrency=2,
        )
        if Integration.is_used(self, "slack"):
            self._tell_the_team(platform)
        rates = ExchangeRates(self, "Rates")
        fetch = BackgroundJob(
            self,
            "ExchangeRates",
            source="exchange_rates",
            job=EXCHANGE_RATES,
            service=platform.jobs,
            grants=(rates.write, Integration(self, "Ecb", third_party="ecb", per_second=1).call),
            variables=FILES,
        )
        rates.alarm_when_stale(fetch.function)
        BackgroundJob(
            self,
            "SalesReport",
            source="sales_report",
            job=SALES_REPORT,
            service=platform.jobs,
            grants=(ledger.read,),
        )
        BackgroundJob(
            self,
            "OrderImport",
            source="order_import",
            job=ORDER_IMPORT,
            service=platform.jobs,
            grants=(
                platform.jobs.uploads,
                platform.jobs.write_in_parts,
                platform.bus.publish_large(OrderPlaced, OrderCancelled),
            ),
        )
        shard = BackgroundJob(
            self,
            "CustomersShard",
            source="customers_shard",
            job=CUSTOMERS_SHARD,
            service=platform.jobs,
            grants=(platform.jobs.uploads,),
        )
        BackgroundJob(
            self,
            "CustomerSegments",
            source="customer_segments",
            job=CUSTOMER_SEGMENTS,
            service=platform.jobs,
            grants=(platform.jobs.uploads,),
            starts=(shard,),
        )
        for name, provider in _SENDERS.items():
            WebhookReceiver(self, name, provider=provider, bus=platform.bus)
        webhooks_out = WebhookSender(
            self, "WebhooksOut", events=platform.bus.catalogue.outward_types, platform=platform
        )
        MonolithAccess(
            self,
            "Monolith",
            monolith=Environment.of(self).monolith,
            bus=platform.bus,
            publishes=(OrderPlaced, OrderCancelled),
            claims=True,
            jobs=platform.jobs,
            subscriptions=webhooks_out,
        )

    def _tell_the_team(self, platform: Platform) -> None:
        channel = Integration(
            self,
            "TeamChannel",
            third_party="slack",
            per_second=1,
            # A call for each topic fits into the function's time.
            total_seconds=10,
            secret=True,
            secret_path=True,
        )
        notices = Notices(self, "Notices")
        notifier = EventConsumer(
            self,
            "TeamNotifier",
            source="team_notifier",
            events=(StockLow, JobFinished, SubscriptionPaused),
            bus=platform.bus,
            grants=(notices.write, channel.call),
            timeout=Duration.seconds(50),
            # One for each topic; what is not told waits in the table.
            calls=3,
            patience=None,
            # Every batch touches the same items, one a topic.
            concurrency=2,
        )
        notices.tell_each_minute(notifier.function)
