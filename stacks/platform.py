"""What every use case stands on: the bus, its journal, and where alarms go."""

from __future__ import annotations

from aws_cdk import Stack
from constructs import Construct

from stacks.constructs.event_bus import EventBus
from stacks.constructs.operators import Operators
from stacks.patterns.event_consumer import EventConsumer


class Platform(Stack):
    """The bus, the journal of what it took, and the operators."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(scope, construct_id)
        self.bus = EventBus(self, "Events")
        self.journal = EventConsumer(self, "EventJournal", source="event_journal", events=(), bus=self.bus)
        self.operators = Operators(self, "Operators")
        self.operators.hear_of(self)
