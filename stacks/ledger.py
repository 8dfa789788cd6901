"""The shop's tables and who may do what with them."""

from __future__ import annotations

from constructs import Construct

from offload.cdk import Access, Table


class Ledger(Construct):
    """The sales ledger: sums by day, country and product."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.sums = Table(self, "Sums")
        self.variables = {"LEDGER_TABLE": self.sums.table_name}

    @property
    def write(self) -> Access:
        """May add postings and fold them."""
        actions = ("PutItem", "DeleteItem", "GetItem", "BatchGetItem", "Query")
        return Access(lambda grantee: self.sums.allow(grantee, *actions), self.variables)

    @property
    def read(self) -> Access:
        """May read the sums."""
        return Access(lambda grantee: self.sums.allow(grantee, "GetItem", "Query"), self.variables)


class StockLevels(Construct):
    """The units on hand."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.shelves = Table(self, "Shelves", sort_key=False)

    @property
    def write(self) -> Access:
        """May read and replace shelves."""
        return Access(
            lambda grantee: self.shelves.allow(grantee, "PutItem", "BatchGetItem"),
            {"STOCK_TABLE": self.shelves.table_name},
        )
