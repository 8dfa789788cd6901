"""Puts every patient of a file into a group: by shards, gathered."""

from __future__ import annotations

from clinic.contracts.jobs import PATIENT_GROUPS, PATIENTS_SHARD, Groups, Patients, PatientsShard
from offload.runtime.jobs.run import Run, job


@job(PATIENT_GROUPS)
def handler(wanted: Patients, run: Run) -> Groups:
    """One job a shard; a shard is a group."""
    inputs = [PatientsShard(file=wanted.file, shard=shard, shards=wanted.shards) for shard in range(wanted.shards)]
    found = {f"group {number}": each.patients for number, each in enumerate(run.gather(PATIENTS_SHARD, inputs))}
    lines = "".join(f"{group},{count}\n" for group, count in found.items())
    table = run.put("groups.csv", lines.encode(), "text/csv; charset=utf-8")
    return Groups(patients=sum(found.values()), groups=found, table=table)
