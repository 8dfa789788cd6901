"""What every use case stands on: the bus, its journal, the job service, and where alarms go."""

from __future__ import annotations

from constructs import Construct

from offload.cdk.access import Access
from offload.cdk.constructs.encryption import Encryption
from offload.cdk.constructs.event_bus import EventBus
from offload.cdk.constructs.job_service import JobService
from offload.cdk.constructs.operators import Operators
from offload.cdk.environment_stack import EnvironmentStack
from offload.cdk.patterns.event_consumer import EventConsumer
from offload.contracts.catalogue import Catalogue
from offload.contracts.functions import own
from offload.contracts.jobs.events import JobWanted


class Platform(EnvironmentStack):
    """The bus, the journal of what it took, the job service, and the operators."""

    def __init__(self, scope: Construct, construct_id: str, *, catalogue: Catalogue) -> None:
        super().__init__(scope, construct_id)
        # Before all that it encrypts: its key is here.
        Encryption.of(self)
        self.bus = EventBus(self, "Events", catalogue=catalogue)
        self.journal = EventConsumer(self, "EventJournal", source=own("event_journal"), events=(), bus=self.bus)
        self.jobs = JobService(self, "Jobs", bus=self.bus)
        submitter = EventConsumer(
            self,
            "JobSubmitter",
            source=own("job_submitter"),
            events=(JobWanted,),
            bus=self.bus,
            grants=(self.jobs.submit,),
            variables=self.bus.catalogue_variables,
            # Its jobs' messages go out one by one.
            concurrency=2,
        )
        self.jobs.nudgers["Submitter"] = submitter.function.role
        self.operators = Operators(self, "Operators")

    @property
    def read_journal(self) -> Access:
        """May read which events the bus took, and when."""
        marks = self.journal.marks
        return Access(lambda grantee: marks.allow(grantee, "Scan"), {"OFFLOAD_JOURNAL_TABLE": marks.table_name})
