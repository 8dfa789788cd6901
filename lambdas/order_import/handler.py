"""Imports a file of orders as order events, in chunks that go on where they were when the function was killed."""

from __future__ import annotations

from offload.runtime.jobs.durable import LongRun, long_job
from shop.contracts.jobs.order_import import ORDER_IMPORT, Imported, OrdersFile

from .importing import OrderImport, OrderImportSettings

settings = OrderImportSettings.from_environment()


@long_job(ORDER_IMPORT)
def handler(orders: OrdersFile, run: LongRun) -> Imported:
    """Opens the file, publishes it chunk by chunk, and joins what was rejected."""
    return OrderImport(orders, run, settings).result()
