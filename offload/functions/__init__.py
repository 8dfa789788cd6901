"""The functions that the framework deploys itself, a folder each; they import `contracts` and `runtime`."""
