"""The embedded AWS with the app on it: started, deployed, patched."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from offload.cli.deployment.aws import LOCAL, Aws
from offload.cli.deployment.progress import SILENT, Steps
from offload.cli.deployment.resources import Deployment
from offload.cli.local import deploy
from offload.cli.local.process import EmbeddedAws


def bring_up(embedded: EmbeddedAws, *, steps: Steps = SILENT, assembly: Path | None = None) -> Deployment:
    """Starts the embedded AWS unless it runs, and deploys the app as it is now to it.

    `assembly` is a synthesized one to deploy; without it the app is synthesized into the embedded AWS's folder.
    What has not changed is not done again. Raises Failure; the emulator then stays as it is, for a look.
    """
    from offload.cli.local.patches import apply_patches

    with embedded.alone():
        with steps.step("Starting the embedded AWS") as notes:
            found = embedded.running()
            instance = embedded.start()
            notes += [instance.endpoint] + (["was running"] if found else [])
        aws = Aws(LOCAL, instance)
        project = embedded.project
        if assembly is None:
            assembly = embedded.root / "cdk.out"
            with steps.step("Synthesizing the environment local"):
                draft = embedded.root / "cdk.draft"
                shutil.rmtree(draft, ignore_errors=True)
                deploy.synthesize(draft, project=project)
                shutil.rmtree(assembly, ignore_errors=True)
                draft.rename(assembly)
        copy = embedded.root / "cdk.embedded"
        taken_out = deploy.copy_for_emulator(assembly, copy)
        with steps.step("Bootstrapping the account") as notes:
            if not deploy.bootstrap(aws, copy, project=project):
                notes.append("was done")
        with steps.step("Deploying with cdk deploy") as notes:
            deploy.deploy(aws, copy, project=project)
            notes += [f"without {each.path}: {each.reason}" for each in taken_out]
        embedded.await_durable_runner(instance)
        with steps.step("Patching what the emulator cannot do") as notes:
            patched = apply_patches(aws, assembly)
            counts = Counter(each.patch for each in patched)
            notes += [f"{name} of {count}" for name, count in sorted(counts.items())] or ["nothing to patch"]
        return Deployment(aws)
