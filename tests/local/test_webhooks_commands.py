"""`offload webhooks` as a person types it, against the deployed app."""

from __future__ import annotations

import json
from typing import Any

from tests.copies import Copy


def test_a_person_sets_a_secret_tries_the_door_and_sees_what_came(deployed: Copy) -> None:
    def said(*arguments: str, code: int = 0) -> Any:
        done = deployed.offload("webhooks", *arguments, "--json")
        assert done.returncode == code, (done.stdout, done.stderr)
        return json.loads(done.stdout)

    made = said("rotate", "github", "--overlap", "1h")
    tried = said("test", "github", "--event", "release.published", "--endpoint", "clinic")
    assert (tried["status"], tried["outcome"], tried["key_id"]) == (200, "accepted", made["key_id"])
    (github,) = [each for each in said("providers")["providers"] if each["name"] == "github"]
    assert tried["url"] == f"{github['url']}/clinic"
    assert github["secrets"][0]["key_id"] == made["key_id"]
    assert github["last_24h"]["accepted"] >= 1
    whole = said("show", tried["delivery_id"])
    assert (whole["event_id"], whole["event_type"]) == (tried["event_id"], "release.published")
    assert tried["event_id"] in {each["event_id"] for each in said("recent", "--provider", "github")["webhooks"]}
    assert said("rotate", "github")["old"][0]["key_id"] == made["key_id"]
    assert said("test", "github")["key_id"] != made["key_id"], (
        "the new secret counts at once, though none was read since"
    )
    assert json.loads(deployed.offload("audit", "--json").stdout)["webhooks_owed"] == []
