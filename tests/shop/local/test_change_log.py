"""The shop's change log through the deployed app: what GitHub tells of a release."""

from __future__ import annotations

import json

import pytest

from tests.copies import Copy
from tests.local.test_webhooks import EXAMPLES, SECRETS, Door, github
from tests.patience import until


@pytest.fixture
def door(deployed: Copy) -> Door:
    """The receiver of the shared copy, with GitHub's secret set."""
    door = Door(deployed)
    door.set_secrets("github", *SECRETS["github"])
    return door


@pytest.mark.skipif(not EXAMPLES.exists(), reason="node_modules is not installed: make toolchain")
def test_a_release_that_github_tells_of_is_in_the_change_log_once(door: Door) -> None:
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    releases = next(each["examples"] for each in examples if each["name"] == "release")
    payload = next(each for each in releases if each["action"] == "published")
    payload["release"] |= {
        "id": 9_000_001,
        "name": "Spring sale",
        "tag_name": "v9.1",
        "published_at": "2026-03-01T10:00:00Z",
        "updated_at": "2026-03-01T10:00:00Z",
    }
    body = json.dumps(payload).encode()
    for _ in range(3):
        assert door.post("github", github(body, "release"), body)[0] == 200

    def page() -> str:
        return door.copy.offload("change-log", "show", "--month", "2026-03").stdout

    until(lambda: "Spring sale" in page(), "the change log")
    assert page().count("Spring sale") == 1
