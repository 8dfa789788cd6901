"""cfn-lint on every environment's templates: `python -m offload.cdk.lint`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cfnlint.api import ManualArgs, lint_by_config  # type: ignore[import-untyped]

from offload.cdk.environment import Environment
from offload.cdk.templates import assembly

# W3005: the CDK writes a function's dependency on its role although a reference implies it.
IGNORED = ["W3005"]
# What a resource type takes is looked up for one Region; the templates name none.
REGION = "eu-west-1"


def templates(folder: Path) -> Iterator[Path]:
    """Synthesizes every environment below `folder`, without bundling or guarding; yields the templates' files."""
    for name in Environment.names():
        yield from (Path(stack.template_full_path) for stack in assembly(name, folder / name, validated=False).stacks)


def main() -> None:
    """Prints each finding on a line of its own; exit code 1 when there is one."""
    with tempfile.TemporaryDirectory() as folder:
        files = [str(file) for file in templates(Path(folder))]
        found = [
            f"{Path(match.filename).name}: {match.rule.id} {match.message} ({'/'.join(map(str, match.path or ()))})"
            for match in lint_by_config(ManualArgs(templates=files, regions=[REGION], ignore_checks=IGNORED))
        ]
    if found:
        sys.exit("\n".join(found))
    print(f"cfn-lint: {len(files)} templates are clean")


if __name__ == "__main__":
    main()
