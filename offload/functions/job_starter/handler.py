"""Begins the durable execution of each job that a long type's queues name."""

from __future__ import annotations

from offload.runtime.catalogue import catalogue
from offload.runtime.jobs.starter import Starter
from offload.runtime.jobs.store import JobStore

handler = Starter(JobStore.from_environment(catalogue().job_types))
