"""From a folder under lambdas/ to what Lambda runs: import tracing, pinned wheels by uv, and a hash of exactly that."""

from offload.cdk.bundling.bundler import MAX_UNZIPPED_BYTES, Bundle, Bundler, modules_named_by
from offload.cdk.bundling.errors import BundlingError
from offload.cdk.bundling.target import Target

__all__ = ["MAX_UNZIPPED_BYTES", "Bundle", "Bundler", "BundlingError", "Target", "modules_named_by"]
