"""The shop's change log: where it is kept, and where it is read."""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from constructs import Construct

from offload.cdk import Access, PrivateBucket, Table, acknowledge_objects, allow_to_miss

_PAGES = "change-log/*"


class ChangeLog(Construct):
    """Its entries in a table, and a Markdown page a month in a bucket."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.entries = Table(self, "Entries")
        self.pages = PrivateBucket(self, "Pages")

    @property
    def write(self) -> Access:
        """May change entries, and read and replace pages."""
        return Access(
            self._grant_write,
            {"CHANGE_LOG_TABLE": self.entries.table_name, "CHANGE_LOG_BUCKET": self.pages.bucket_name},
        )

    def _grant_write(self, grantee: iam.IGrantable) -> None:
        self.entries.allow(grantee, "PutItem", "DeleteItem", "GetItem", "Query")
        allow_to_miss(grantee, self.pages)
        iam.Grant.add_to_principal(
            grantee=grantee,
            actions=["s3:GetObject", "s3:PutObject"],
            resource_arns=[self.pages.arn_for_objects(_PAGES)],
        )
        acknowledge_objects(grantee, self.pages, _PAGES, "One page a month: known at run time.")
