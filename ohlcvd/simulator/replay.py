"""Plays a recording through the venue's protocol: every recorded frame, unchanged, to whoever subscribed to it.

The venue's clock stands a second before the minute of the first recorded trade until a client has subscribed; SETTLE_S
after the last of its subscriptions it starts, at the speed asked for, and it goes on after the last frame, so that the
last minute ends too. It never shows a later time than that of the next frame to be sent: when a client is slow, the
whole past waits for it. A client that comes back goes on at the current position.
"""

import asyncio
import logging
from functools import lru_cache
from pathlib import Path

from ohlcvd.market import MINUTE_US
from ohlcvd.simulator.binance import BinanceVenue
from ohlcvd.simulator.clock import ReplayClock
from ohlcvd.simulator.connection import Frame
from ohlcvd.simulator.kraken import KrakenVenue
from ohlcvd.simulator.recording import RecordedFrame, Recording, load_recording
from ohlcvd.simulator.venue import Venue

log = logging.getLogger("ohlcvd.simulator")

SETTLE_S = 1.0
_SETTLE_MAX_S = 10.0
_STUCK_S = 30.0
_BATCH = 200
_LATE_S = 0.2


def load_replay(folder: Path, speed: float) -> "Replay":
    """Raises UsageError when the folder cannot be replayed."""
    recording = load_recording(folder)
    start_ns = min(recording.first_trade_ns // 1000 // MINUTE_US * MINUTE_US * 1000, recording.frames[0].ts_ns)
    clock = ReplayClock(start_ns - 10**9, speed)
    history = [trade.ts_ns // 1000 for trades in recording.trades.values() for trade in trades.values()]
    history += [ts_us for _, ts_us in recording.stated]
    start_us = min([start_ns // 1000, *history]) // MINUTE_US * MINUTE_US
    kind: type[Venue] = KrakenVenue if recording.exchange == "kraken" else BinanceVenue
    venue = kind(
        recording.listings.values(), lru_cache(maxsize=None)(recording.tape), clock, start_us=start_us, live=False
    )
    venue.stated, venue.answers = recording.stated, recording.answers
    return Replay(recording, venue, clock)


class Replay:
    """One recording being played."""

    def __init__(self, recording: Recording, venue: Venue, clock: ReplayClock) -> None:
        self.venue = venue
        self._frames = recording.frames
        self._clock = clock
        self._position = 0
        self._subscribed = asyncio.Event()
        venue.on_subscribed = lambda symbol: self._subscribed.set()

    def status(self) -> dict[str, object]:
        return {
            "started": self._clock.running,
            "finished": self._position == len(self._frames),
            "position": self._position,
            "frames": len(self._frames),
            "speed": self._clock.speed,
            "now_us": self._clock.now_ns() // 1000,
        }

    async def run(self) -> None:
        """Until cancelled; the clock and the heartbeats outlast the frames."""
        await asyncio.gather(self._play(), self._beat())

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1)
            self.venue.every_second()

    async def _play(self) -> None:
        self._clock.ceiling_ns = self._frames[0].ts_ns
        await self._first_client()
        self._clock.run()
        while self._position < len(self._frames):
            wait_s = self._clock.wait_s(self._frames[self._position].ts_ns)
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                continue
            batch = self._due()
            await self._send(batch)
            self._position += len(batch)
            done = self._position == len(self._frames)
            self._clock.ceiling_ns = None if done else self._frames[self._position].ts_ns
            if not done and self._clock.wait_s(self._frames[self._position].ts_ns) < -_LATE_S:
                self._clock.hold()
        log.info("replay of %d frames is through, the clock goes on", len(self._frames))

    async def _first_client(self) -> None:
        """Until SETTLE_S have passed without a new subscription."""
        await self._subscribed.wait()
        loop = asyncio.get_running_loop()
        latest = loop.time() + _SETTLE_MAX_S
        while self._subscribed.is_set() and loop.time() < latest:
            self._subscribed.clear()
            await asyncio.sleep(SETTLE_S)

    def _due(self) -> list[RecordedFrame]:
        """The next frames whose time has come; at least one."""
        end = self._position + 1
        last = min(len(self._frames), self._position + _BATCH)
        while end < last and self._clock.wait_s(self._frames[end].ts_ns) <= 0:
            end += 1
        return self._frames[self._position : end]

    async def _send(self, batch: list[RecordedFrame]) -> None:
        """To every client what it subscribed to; returns when all of it is written."""
        busy = []
        for connection in list(self.venue.connections.values()):
            frames = [frame for frame in batch if frame.name in connection.subscriptions]
            for frame in frames:
                connection.send_frame(Frame(frame.text, frame.symbol, frame.first_id, frame.end_id))
            if frames:
                busy.append(connection)
        for connection in busy:
            if not await connection.settled(_STUCK_S):
                log.warning("replay: client %d takes nothing for %g s, cut off", connection.number, _STUCK_S)
                connection.abort()
