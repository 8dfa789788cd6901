"""An app of the last release, kept to be run with this one: `python -m tests.package.previous` stores a new one.

Run it at a release, with its code, once `version` in pyproject.toml is its number. The app is made by the
generators, edited as a team edits one, and kept with what its data hangs on in `prod`.
"""

from __future__ import annotations

import json
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from offload.cdk.retention import HOLDS_DATA
from offload.project import PROJECT
from tests.apps import OFFLOAD, printed, resources_of

FILE: Final = Path(__file__).with_name("previous.json")

# Properties for which CloudFormation replaces a resource ("Update requires: Replacement" in its resource reference,
# docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference, read 2026-11-30).
REPLACING: Final[Mapping[str, tuple[str, ...]]] = {
    "AWS::DynamoDB::Table": ("TableName", "KeySchema", "ImportSourceSpecification"),
    "AWS::Events::Archive": ("ArchiveName", "SourceArn"),
    "AWS::Events::EventBus": ("Name",),
    "AWS::Logs::LogGroup": ("LogGroupName",),
    "AWS::S3::Bucket": ("BucketName", "BucketNamePrefix"),
    "AWS::SQS::Queue": ("QueueName", "FifoQueue"),
    "AWS::SecretsManager::Secret": ("Name",),
}

_PARTS: Final = (
    ("event", "appointment.booked"),
    ("consumer", "appointment_reminder", "--event", "appointment.booked"),
    ("job", "yearly_count"),
    ("webhook", "github"),
    ("webhook", "parcel-service"),
    ("event", "webhook.received.github.push"),
    ("integration", "carrier", "--event", "appointment.booked"),
    ("table", "appointments", "--function", "appointment_reminder"),
)
# By file: what a team writes in place of what the generators wrote.
_EDITS: Final[Mapping[str, tuple[tuple[str, str], ...]]] = {
    "lambdas/appointment_reminder/handler.py": (
        (
            "log = Logger",
            "from .appointments import Appointments\n\nAPPOINTMENTS = Appointments.from_environment()\nlog = Logger",
        ),
        ("    log.info", "    APPOINTMENTS.put(event.id, event.data.id)\n    log.info"),
    ),
    "clinic/contracts/appointment_booked.py": (("    id: Id\n", '    id: Id\n    room: str = ""\n'),),
    "environments/prod.toml": (("log_retention_days = 90", "log_retention_days = 365"),),
    "stacks/clinic.py": (
        (
            '        EventConsumer(self, "NoteLog"',
            '        PrivateBucket(self, "Scans")\n        EventConsumer(self, "NoteLog"',
        ),
        ("Integration, Platform,", "Integration, Platform, PrivateBucket,"),
        (
            "grants=(appointments.write,),",
            "grants=(appointments.write,),\n            timeout=Duration.seconds(30),\n            batch_size=5,",
        ),
    ),
}


def with_data(folder: Path) -> dict[str, dict[str, Any]]:
    """By stack and logical id, what holds data in `prod`: its type, and the properties that replace it."""
    return {
        stack: {
            logical_id: {
                "Type": each["Type"],
                **{
                    name: each["Properties"][name]
                    for name in REPLACING[each["Type"]]
                    if name in each.get("Properties", {})
                },
            }
            for logical_id, each in resources.items()
            if each["Type"] in HOLDS_DATA
        }
        for stack, resources in resources_of(folder, "prod").items()
    }


def _keep() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "clinic")
        printed(Path(root), *OFFLOAD, "new", "app", "clinic", "--requirement", f"offload[cli]=={version}")
        for part in _PARTS:
            printed(folder, *OFFLOAD, "new", *part)
        for name, edits in _EDITS.items():
            text = (folder / name).read_text(encoding="utf-8")
            for before, after in edits:
                assert text.count(before) == 1, (name, before)
                text = text.replace(before, after)
            (folder / name).write_text(text, encoding="utf-8")
        kept = ("*.py", "*.toml", "cdk.json", "*.in")
        files = {
            path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
            for pattern in kept
            for path in sorted(folder.rglob(pattern))
        }
        document = {"version": version, "files": files, "with_data": with_data(folder)}
    FILE.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _keep()
