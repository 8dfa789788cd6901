"""What the documents say of the shop's queues."""

from __future__ import annotations

import json

from offload.cdk.guardrails.limits import most_at_once
from offload.cdk.guardrails.templates import Template, Templates
from offload.project import PROJECT

SNAPSHOTS = PROJECT / "tests/shop/snapshots" / "__snapshots__" / "test_templates"


def test_the_documentation_has_the_sum_of_the_environments_that_bound_their_queues() -> None:
    page = (PROJECT / "docs" / "guardrails.md").read_text(encoding="utf-8")
    for environment in ("staging", "prod"):
        bodies = {path.stem: json.loads(path.read_text()) for path in SNAPSHOTS.glob(f"offload-{environment}-*.json")}
        assert len(bodies) == 2
        most = most_at_once(Templates([Template(name, name, body) for name, body in bodies.items()]))
        assert f"the queues of `staging` and `prod` may start {most}" in page
