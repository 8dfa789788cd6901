"""From a folder under lambdas/ to what Lambda runs: import tracing, pinned wheels by uv, and a hash of exactly that."""

from stacks.bundling.bundler import MAX_UNZIPPED_BYTES, Bundle, Bundler
from stacks.bundling.errors import BundlingError
from stacks.bundling.target import Target

__all__ = ["MAX_UNZIPPED_BYTES", "Bundle", "Bundler", "BundlingError", "Target"]
