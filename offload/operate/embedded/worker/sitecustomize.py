"""Python reads this at the start of each process of the emulator: it spares function workers an import.

Into every worker MiniStack imports botocore, to count functions that invoke one another in a circle. That takes longer
than the whole cold start of most functions, AWS does not do it, and no function here invokes another. A function that
imports botocore itself gets it.
"""

import sys
from importlib.abc import MetaPathFinder

# ministack/core/lambda_runtime.py: the worker's script, and the function in it that asks for botocore.
_SCRIPT, _ASKS = "_worker.py", "_ms_install_invoke_depth"


class _NoBotocore(MetaPathFinder):
    def find_spec(self, name: str, *_: object) -> None:
        if name != "botocore":
            return
        sys.meta_path.remove(self)
        frame = sys._getframe()
        while frame.f_back is not None:
            frame = frame.f_back
            if frame.f_code.co_name == _ASKS:
                raise ModuleNotFoundError("the embedded AWS does without it")


if sys.orig_argv[-1].endswith(_SCRIPT):
    sys.meta_path.insert(0, _NoBotocore())
