"""Health and metrics over HTTP. Answers from what the monitor knows already: a request waits for nothing.

    /healthz   200 while the monitor and the supervisor answer, else 503 with the reason
    /readyz    200 while every market is collected, else 503; JSON with those that are not, since when, and why; those
               that the venue does not trade any more are `parked`, and nothing to wait for
    /status    JSON, as `ohlcvd status --json`
    /metrics   for Prometheus

The port being in use, or the address not being there, is logged and tried again: it ends nothing.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Protocol

from aiohttp import web

from ohlcvd.log import get_component_logger
from ohlcvd.supervisor.report import StatusReport

Handler = Callable[[web.Request], web.Response]

RETRY_MIN_S, RETRY_MAX_S = 1.0, 60.0

log = get_component_logger("ohlcvd.monitor.http")


class Known(Protocol):
    """What the monitor knows now."""

    @property
    def report(self) -> StatusReport: ...
    @property
    def supervisor_fault(self) -> str | None: ...
    def metrics(self, accept: str) -> tuple[bytes, str]:
        """The text for Prometheus in the form that the client accepts, and its content type."""
        ...


class Web:
    """One server on one address, `address:port` as the configuration has it."""

    def __init__(self, listen: str, known: Known) -> None:
        host, _, port = listen.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._known = known
        self.port: int | None = None  # while it listens
        self.requests = 0

    async def serve_forever(self) -> None:
        """Until cancelled."""
        app = web.Application()
        routes: Mapping[str, Handler] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/status": self._status,
            "/metrics": self._metrics,
            "/": self._index,
        }
        for path, handler in routes.items():
            app.router.add_get(path, self._counted(handler))
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await self._listen(runner)
            await asyncio.Event().wait()
        finally:
            self.port = None
            await runner.cleanup()

    async def _listen(self, runner: web.AppRunner) -> None:
        pause_s = RETRY_MIN_S
        while True:
            site = web.TCPSite(runner, self._host, self._port)
            try:
                await site.start()
                break
            except (OSError, UnicodeError) as error:
                log.error(
                    "cannot listen on %s port %d: %s; health and metrics are not to be had, next try in %.0f s",
                    self._host, self._port, _reason(error), pause_s,
                )  # fmt: skip
            await asyncio.sleep(pause_s)
            pause_s = min(RETRY_MAX_S, pause_s * 2)
        self.port = runner.addresses[0][1]
        log.info("health and metrics are at http://%s:%d/", self._host, self.port, host=self._host, port=self.port)

    def _counted(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            self.requests += 1
            return handler(request)

        return answer

    def _index(self, _request: web.Request) -> web.Response:
        return web.Response(text="ohlcvd: /healthz /readyz /status /metrics\n")

    def _healthz(self, _request: web.Request) -> web.Response:
        fault = self._known.supervisor_fault
        return _json({"alive": fault is None, "reason": fault}, 200 if fault is None else 503)

    def _readyz(self, _request: web.Request) -> web.Response:
        report = self._known.report
        idle = [asdict(one) for one in report.not_collecting]
        fault = self._known.supervisor_fault
        reason = fault or (_why_idle(report) if report.children else "there is no child yet")
        ready = reason is None
        parked = [{"exchange": one.exchange, "symbol": one.symbol} for one in report.markets if one.is_parked]
        document = {"ready": ready, "reason": reason, "not_collecting": idle, "parked": parked}
        return _json(document, 200 if ready else 503)

    def _status(self, _request: web.Request) -> web.Response:
        return _json(self._known.report.as_dict(), 200)

    def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = self._known.metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})


def _why_idle(report: StatusReport) -> str | None:
    """One sentence for those that are not collected; the list says more."""
    if not report.not_collecting:
        return None
    count, first = len(report.not_collecting), report.not_collecting[0]
    what = f"{count} markets are not collected, the first is" if count > 1 else "not collected:"
    return f"{what} {first.exchange} {first.symbol or '(all of it)'}: {first.reason}"


def _json(document: object, status: int) -> web.Response:
    return web.Response(text=json.dumps(document) + "\n", status=status, content_type="application/json")


def _reason(error: Exception) -> str:
    return re.sub(r"^\[Errno -?[0-9]+\] ", "", str(error)) or type(error).__name__
