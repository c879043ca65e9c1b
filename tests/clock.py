"""A wall clock that can be set, for the processes of one test: really, below Python, wherever there is a C compiler."""

import os
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parent / "shifted"


class WallClock:
    """`environ` is for the processes; `set` reaches them while they run."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.environ = {"SHIFTED_CLOCK": str(self._file)}
        compiler = shutil.which("cc")
        if compiler is None:
            self.environ["PYTHONPATH"] = f"{FOLDER}:{os.environ.get('PYTHONPATH', '')}"
            return
        library = folder / "clock.so"
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, FOLDER / "clock.c"], check=True)
        self.environ["LD_PRELOAD"] = str(library)

    def set(self, seconds: int) -> None:
        """So many seconds ahead; behind if negative. In place: the processes have it mapped."""
        fd = os.open(self._file, os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, seconds.to_bytes(8, "little", signed=True), 0)
        os.close(fd)
