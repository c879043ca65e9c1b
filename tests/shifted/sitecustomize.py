"""Where no compiler is: Python's own functions for the wall clock, shifted by what the file SHIFTED_CLOCK says."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FILE = Path(os.environ["SHIFTED_CLOCK"])


def _shifted(function: Callable[[], Any], unit: int) -> Callable[[], Any]:
    return lambda: function() + int.from_bytes(_FILE.read_bytes(), "little", signed=True) * unit


time.time = _shifted(time.time, 1)
time.time_ns = _shifted(time.time_ns, 10**9)
