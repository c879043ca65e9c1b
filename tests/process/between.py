"""What stands between the daemon and the exchange: an HTTP server in a thread with an event loop of its own."""

import asyncio
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self, TypeVar

import aiohttp
from aiohttp import web

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Between(ABC):
    """As a context manager it is there from the beginning of the block to its end. Subclasses say what they do."""

    def __init__(self, exchange_url: str) -> None:
        self.exchange_url = exchange_url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        self.do(self._start())
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """In the thread; returns when it is done."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @abstractmethod
    async def opened(self, port: int) -> None:
        """The server listens there."""

    async def closing(self) -> None:
        """The server is about to stop."""
        return

    @abstractmethod
    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Whatever is asked."""

    async def _start(self) -> None:
        self.session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application()
        app.router.add_get("/{exchange}/{path:.*}", self.handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        await self.opened(self._runner.addresses[0][1])

    async def _stop(self) -> None:
        await self.closing()
        await self._runner.cleanup()
        await self.session.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
