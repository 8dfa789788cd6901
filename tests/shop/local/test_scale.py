"""The proof at scale, at a fraction: stopped in the middle, taken up again, and able to fail."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.deployment.resources import Deployment
from offload.cli.local.process import EmbeddedAws, free_port
from offload.project import PROJECT
from tests.shop.scale.poison import KINDS

FRACTION: Final = ("--orders", str(3 * len(KINDS)), "--leg", str(2 * len(KINDS)), "--poison-every", "3")


def scale(folder: Path, brought_up: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.shop.scale", *FRACTION, "--kill-every", "20"]
    return subprocess.Popen(
        [*command, "--folder", str(folder), "--brought-up", str(brought_up)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
def test_a_run_that_was_stopped_goes_on_and_is_exact_and_says_what_is_not(tmp_path: Path, brought_up: Path) -> None:
    first = scale(tmp_path, brought_up)
    assert first.stderr is not None
    # The first leg's end is told while the second begins.
    for line in first.stderr:
        if "is kept" in line:
            first.send_signal(signal.SIGTERM)
            break
    _, said = first.communicate()
    assert first.returncode == 130, said
    second = scale(tmp_path, brought_up)
    printed, said = second.communicate()
    assert second.returncode == 0, printed + said
    result: dict[str, Any] = json.loads(printed)
    assert result["exact"]
    assert (result["orders"], result["poison"]) == (3 * len(KINDS), len(KINDS))
    assert result["progress"]["legs"] == 2
    assert result["progress"]["killed"] > 0

    lose_a_posting(EmbeddedAws(tmp_path / "embedded", port=free_port()))
    third = scale(tmp_path, brought_up)
    printed, said = third.communicate()
    assert third.returncode == 1, printed + said
    found = json.loads(printed)
    assert not found["exact"]
    assert any("the ledger's total is" in each for each in found["differences"])


def lose_a_posting(embedded: EmbeddedAws) -> None:
    """Deletes one posting of the ledger behind everybody's back."""
    try:
        deployment = Deployment(Aws(LOCAL, embedded.start()))
        table = deployment.table("Ledger")
        items = deployment.aws.dynamodb.scan(TableName=table)["Items"]
        posting = next(each for each in items if each["sk"]["S"].startswith("posting#"))
        deployment.aws.dynamodb.delete_item(TableName=table, Key={"pk": posting["pk"], "sk": posting["sk"]})
    finally:
        stopped = embedded.stop()
    assert stopped is not None
    assert stopped.clean
