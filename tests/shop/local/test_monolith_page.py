"""The code of docs/monolith.md, run by a monolith of the shop that knows nothing but what `offload connect` prints."""

from __future__ import annotations

import re

from offload.project import PROJECT
from tests.copies import Copy
from tests.local.test_connect import PATIENT, ran
from tests.patience import PATIENCE


def test_the_code_of_the_page_does_what_the_page_says(deployed: Copy) -> None:
    page = (PROJECT / "docs" / "monolith.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    code = "\n".join(blocks).replace("timeout=60", f"timeout={PATIENCE}")
    for client in ("Jobs", "Subscriptions"):
        code = code.replace(f"{client}.from_environment()", f"{client}.from_environment(**patient)")
    report, subscription, refused = ran(deployed, PATIENT + code).splitlines()
    assert re.fullmatch(r"[\d.]+ results/job-\w+/1/report\.html", report)
    assert re.fullmatch(r"sub_\w+ whsec_\S+", subscription)
    assert refused == "no-such-subscription 404"
