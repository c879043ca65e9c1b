"""What is broken at a venue right now. The names under which faults are switched on are in fault_list.py."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from aiohttp import web

from ohlcvd.simulator.sent import IdRanges
from ohlcvd.simulator.tape import MinuteCandle

REST_KINDS = ("429", "418", "500", "503", "html", "cut-body", "hang")


@dataclass(slots=True)
class RestFault:
    """Answers of this kind, for so long or so many requests."""

    kind: str
    until_mono: float
    left: int | None = None
    retry_after_s: int = 0


@dataclass(slots=True)
class Faults:
    """One venue's. All sets and maps are by unified symbol."""

    silent_until_mono: float = 0.0
    rest: RestFault | None = None
    requests_per_s: float | None = None
    market_requests_per_s: float | None = None  # history of one market
    messages_per_s: int = 5  # Binance: more from one client and it is disconnected
    duplicate_every: int = 0
    refused: set[str] = field(default_factory=set)
    delisted: set[str] = field(default_factory=set)
    muted: set[str] = field(default_factory=set)
    withheld: dict[str, IdRanges] = field(default_factory=dict)
    revisions: dict[tuple[str, int], MinuteCandle] = field(default_factory=dict)
    injected: Counter[str] = field(default_factory=Counter)  # bad frames sent, by the fault's name
    _frames: int = 0
    _request_times: dict[str, deque[float]] = field(default_factory=dict)  # by market, "" for all

    def is_silent(self) -> bool:
        return time.monotonic() < self.silent_until_mono

    def copies(self) -> int:
        """How often the next frame is to be sent."""
        self._frames += 1
        return 2 if self.duplicate_every and self._frames % self.duplicate_every == 0 else 1

    def rest_fault(self, market: str | None = None) -> RestFault | None:
        """What the request that has just come gets instead of an answer. `market`: whose history it asks for."""
        now = time.monotonic()
        fault = self.rest
        if fault is not None and (now >= fault.until_mono or fault.left == 0):
            fault = self.rest = None
        if fault is not None:
            if fault.left is not None:
                fault.left -= 1
            return fault
        limits = [("", self.requests_per_s), *([(market, self.market_requests_per_s)] if market else [])]
        is_over = any(self._is_over_limit(key, rate, now) for key, rate in limits)
        return RestFault("429", now, retry_after_s=1) if is_over else None

    def _is_over_limit(self, key: str, rate: float | None, now: float) -> bool:
        if rate is None:
            return False
        times = self._request_times.setdefault(key, deque())
        while times and times[0] < now - 10:
            times.popleft()
        if len(times) >= rate * 10:
            return True
        times.append(now)
        return False


def broken_answer(fault: RestFault, error_body: str) -> web.Response | None:
    """The answer that a RestFault stands for; None when the right answer is only to be damaged (see damaged())."""
    headers = {"Retry-After": str(fault.retry_after_s)} if fault.retry_after_s else {}
    if fault.kind in ("429", "418"):
        return web.Response(status=int(fault.kind), text=error_body, headers=headers, content_type="application/json")
    if fault.kind in ("500", "503"):
        page = "<html><head><title>Service Unavailable</title></head><body>Service Unavailable</body></html>"
        return web.Response(status=int(fault.kind), text=page, headers=headers, content_type="text/html")
    if fault.kind == "html":
        return web.Response(
            text="<!DOCTYPE html><html><body>Scheduled maintenance</body></html>", content_type="text/html"
        )
    return None


def damaged(answer: web.Response) -> web.Response:
    """The same answer, cut in the middle."""
    text = answer.text or ""
    return web.Response(status=answer.status, text=text[: len(text) // 2], content_type=answer.content_type)
