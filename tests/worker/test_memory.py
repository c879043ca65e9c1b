"""What a burst leaves free is not kept, nor what holds itself."""

import subprocess
import sys

# Pieces of which every tenth is kept, so that the heap cannot shrink from its end.
BURST = """
import os
from ohlcvd.worker.memory import GROWN_BYTES, give_back, heap_bytes

def resident_kib():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024

first = heap_bytes()
pieces = [bytes(20_000) for _ in range(5_000)]
before = resident_kib()
pieces = pieces[::10]
kept = resident_kib()
assert first < heap_bytes() - GROWN_BYTES
give_back()
print(before, kept, resident_kib())
"""


def test_what_is_free_inside_the_heap_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", BURST], capture_output=True, text=True, check=True)
    before, kept, after = map(int, done.stdout.split())
    assert kept > 0.9 * before  # else there is nothing to give back, and this module is not needed any more
    assert before - after > 0.7 * 5_000 * 20_000 / 1024


# As many rows as are on their way at full speed, then something that holds itself.
CYCLES = """
import asyncio, gc
from ohlcvd.worker.memory import collect_seldom, give_back_forever

class Ended:
    def __init__(self): self.itself = self
    def __del__(self): gone.append(self)

async def until_collected():
    giving_back = asyncio.create_task(give_back_forever(0.01))
    async with asyncio.timeout(30):
        while not gone:
            await asyncio.sleep(0.01)
    giving_back.cancel()

collect_seldom()
gone, before = [], gc.get_stats()[0]["collections"]
rows = [(number, [number]) for number in range(40_000)]
Ended()
print(gc.get_stats()[0]["collections"] - before, len(gone))
asyncio.run(until_collected())
"""


def test_what_holds_itself_goes_by_the_clock_and_rows_are_not_looked_through() -> None:
    done = subprocess.run([sys.executable, "-c", CYCLES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "0"]
