"""What a test does beside itself, in a thread of its own, for the length of a block."""

import threading
from abc import ABC, abstractmethod
from typing import Self


class Beside(ABC):
    """A context manager; `_run` goes on until `_ended` is set."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ended.set()
        self._thread.join()

    @abstractmethod
    def _run(self) -> None: ...
