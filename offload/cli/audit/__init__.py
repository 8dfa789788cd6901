"""The reconciliation: what was accepted is done, waits or is dead; of events, jobs and deliveries."""
