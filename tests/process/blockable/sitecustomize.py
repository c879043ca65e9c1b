"""On the path of a daemon under test: SIGRTMIN holds up whichever process gets it, as a call that never returns does.

Python imports a module of this name when it starts; forked children inherit the handler.
"""

import signal
import time


def _block(_signum: int, _frame: object) -> None:
    time.sleep(3600)


signal.signal(signal.SIGRTMIN, _block)
