"""What a crash of the machine must not undo."""

import os
from pathlib import Path


def sync_folder(path: Path) -> None:
    """Until this returns, a file that was made, renamed or removed in the folder may not have been. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
