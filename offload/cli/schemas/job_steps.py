"""The steps of durable job types, as they were released: `schemas/jobs/steps.json`.

Runs in flight go by the order of their steps, so a released version of a type keeps them: synthesizing compares. What
is written down here is added to, never changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from offload.contracts.jobs.job_type import JobType
from offload.project import PROJECT

FILE: Final = PROJECT / "schemas" / "jobs" / "steps.json"


def write(types: Iterable[JobType[Any, Any]], file: Path = FILE) -> list[str]:
    """Adds the versions that are not there yet to `file`; returns them as `type version N`."""
    released = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    added = []
    for each in types:
        versions = released.setdefault(each.name, {}) if each.durable else {}
        if each.durable and str(each.version) not in versions:
            versions[str(each.version)] = list(each.steps)
            added.append(f"{each.name} version {each.version}")
    if added:
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(released, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return added
