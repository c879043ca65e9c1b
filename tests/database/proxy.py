"""A proxy before PostgreSQL's socket that swallows the reply to a COMMIT, goes deaf, delays, or is cut."""

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """`async with Proxy(conninfo, folder) as proxy:` and connect to `proxy.conninfo`."""

    def __init__(self, conninfo: str, folder: Path) -> None:
        self._target = f"{conninfo_to_dict(conninfo)['host']}/.s.PGSQL.5432"
        self._path = folder / ".s.PGSQL.5432"
        self.conninfo = make_conninfo(conninfo, host=str(folder), port="5432")
        self.swallow_commits = 0  # so many replies yet: the server commits, the client never hears of it
        self.swallowed = 0
        self.deaf = asyncio.Event()  # set: bytes are taken and go nowhere
        self._writers: set[asyncio.StreamWriter] = set()
        self.delay_s = 0.0  # of every answer
        self._is_cut = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._path.unlink(missing_ok=True)

    async def cut(self) -> None:
        """End every connection and take none until `mend`."""
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def mend(self) -> None:
        """Take connections again."""
        self._is_cut = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            writer.close()
            return
        ends = {writer, server_writer}
        self._writers |= ends
        try:
            await self._forward(reader, writer, server_reader, server_writer)
        finally:
            self._writers -= ends
            server_writer.close()
            writer.close()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        swallowing = False

        async def to_server() -> None:
            nonlocal swallowing
            while data := await reader.read(65_536):
                if self.deaf.is_set():
                    continue
                if b"COMMIT" in data and self.swallow_commits > 0:
                    self.swallow_commits -= 1
                    swallowing = True
                server_writer.write(data)
                await server_writer.drain()

        async def to_client() -> None:
            while data := await server_reader.read(65_536):
                if swallowing:
                    self.swallowed += 1
                    return  # and with it the connection ends
                await asyncio.sleep(self.delay_s)
                if not self.deaf.is_set():
                    writer.write(data)
                    await writer.drain()

        ways = [asyncio.create_task(to_server()), asyncio.create_task(to_client())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
