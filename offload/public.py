"""The modules that a team may import of `offload.contracts` and `offload.runtime`; what is not named here is private.

Functions import them module by module: a name that a package handed on would put everything behind it into each bundle.
`offload.cdk` and `offload.client`, which no function imports, name what is public in `__all__`.
"""

from __future__ import annotations

from typing import Final

CONTRACTS: Final = (
    "offload.contracts.backoff",
    "offload.contracts.catalogue",
    "offload.contracts.events.audience",
    "offload.contracts.events.claim",
    "offload.contracts.events.entry",
    "offload.contracts.events.event",
    "offload.contracts.idle",
    "offload.contracts.jobs.events",
    "offload.contracts.jobs.job",
    "offload.contracts.jobs.job_type",
    "offload.contracts.webhooks_in.providers",
    "offload.contracts.webhooks_in.received",
    "offload.contracts.webhooks_in.scheme",
    "offload.contracts.webhooks_out.api",
    "offload.contracts.webhooks_out.events",
    "offload.contracts.webhooks_out.recovery",
    "offload.contracts.webhooks_out.subscription",
)

RUNTIME: Final = (
    "offload.runtime.aws",
    "offload.runtime.bus",
    "offload.runtime.events.consumer",
    "offload.runtime.events.sums",
    "offload.runtime.http.client",
    "offload.runtime.http.failures",
    "offload.runtime.http.guard",
    "offload.runtime.invocation",
    "offload.runtime.jobs.durable",
    "offload.runtime.jobs.run",
    "offload.runtime.log",
    "offload.runtime.reasons",
    "offload.runtime.settings",
    "offload.runtime.webhooks_in.secrets",
    "offload.runtime.webhooks_in.sign",
    "offload.runtime.webhooks_in.verify",
)
