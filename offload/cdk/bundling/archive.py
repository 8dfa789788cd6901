"""A bundle as one file: the CDK copies it at each synthesis, and for a tree of files it takes a tenth of a second."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Final

# The earliest that a zip can say: archives of the same content are the same.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def archive_of(folder: Path) -> Path:
    """The zip of a finished bundle, beside its folder, made unless it is there."""
    path = folder.with_name(f"{folder.name}.zip")
    if path.is_file():
        os.utime(path)
        return path
    handle, draft = tempfile.mkstemp(prefix=".partial-", dir=folder.parent)
    with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.rglob("*")):
            if each.is_file():
                entry = zipfile.ZipInfo(each.relative_to(folder).as_posix(), _TIME)
                entry.external_attr = each.stat().st_mode << 16
                archive.writestr(entry, each.read_bytes(), zipfile.ZIP_DEFLATED)
    Path(draft).chmod(0o644)
    # In one step: another synthesis may read it.
    Path(draft).replace(path)
    return path
