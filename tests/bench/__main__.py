"""`bin/bench [--json FILE] [--only CASE]...`: measures every case and prints the table.

The collector has one core to itself; the exchange, PostgreSQL (durable) and Valkey have the other. Each goal is marked
met or not. Figures of a ratio are comparable between machines; the others are of this machine on this day.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from tests.bench import footprint, history, live, reads, relatives
from tests.bench.results import Result, table
from tests.bench.rig import Rig, rig

CASES: dict[str, Callable[[Rig], Iterable[Result]]] = {
    "live-binance-20": lambda rig: [live.throughput(rig, "binance", 20)],
    "live-binance-2000": lambda rig: [live.throughput(rig, "binance", 2000)],
    "live-kraken-20": lambda rig: [live.throughput(rig, "kraken", 20)],
    "live-kraken-2000": lambda rig: [live.throughput(rig, "kraken", 2000)],
    "latency-1k": lambda rig: live.latency(rig, 1_000, {"p50": 5, "p99": 15}, published_ms=10),
    "latency-5k": lambda rig: live.latency(rig, 5_000, {"p99": 25}, history=15_000),
    "growth": live.growth,
    "history-candles": lambda rig: [history.candles(rig)],
    "history-trades": lambda rig: [history.trades(rig)],
    "history-limit": lambda rig: [history.share(rig)],
    "start": footprint.start,
    "memory": footprint.memory,
    "idle": lambda rig: [footprint.idle(rig)],
    "reads": reads.reads,
    "storage": footprint.storage,
    "cryptofeed": relatives.cryptofeed,
}


def main() -> int:
    """Exit code 0 when everything could be measured, whatever it came to; 1 when something could not."""
    parser = argparse.ArgumentParser(prog="bin/bench", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE too")
    names = f"one of {', '.join(CASES)}; may be given again"
    parser.add_argument("--only", choices=CASES, metavar="CASE", action="append", help=names)
    args = parser.parse_args()
    if args.json is not None:  # found out before minutes are spent
        try:
            args.json.write_text("[]\n")
        except OSError as error:
            parser.error(f"argument --json: {args.json} cannot be written: {error.strerror}")
    results: list[Result] = []
    with rig() as servers:
        for name in args.only or CASES:
            began_s = time.monotonic()
            try:
                results += CASES[name](servers)
            except Exception as error:  # noqa: BLE001 one case's edge: it is told, and the others are measured
                traceback.print_exc()
                reason = f"could not be measured: {type(error).__name__}: {error}".splitlines()[0]
                results.append(Result(name, None, "", 0.0, note=reason[:200]))
            print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
            if args.json is not None:  # as far as it has come
                args.json.write_text(json.dumps([one.as_dict() for one in results], indent=2) + "\n")
    print(table(results))
    return int(any(one.value is None and not one.is_optional for one in results))


if __name__ == "__main__":
    sys.exit(main())
