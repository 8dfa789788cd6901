"""Found by Python before a worker of the embedded AWS runs anything: records the function's calls."""

import importlib.util
import os
import sys

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ and "OFFLOAD_CALLS_FOLDER" in os.environ:
    _path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "recording.py")  # noqa: PTH100, PTH118, PTH120 -- a worker starts faster without pathlib
    _spec = importlib.util.spec_from_file_location("offload_recorded_calls", _path)
    assert _spec is not None
    assert _spec.loader is not None
    _recording = importlib.util.module_from_spec(_spec)
    sys.modules[_spec.name] = _recording
    _spec.loader.exec_module(_recording)
    _recording.in_worker()
