"""Health over HTTP: the right codes, the reasons, and a port that is in use ends nothing."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from ohlcvd.monitor.knowledge import Knowledge
from ohlcvd.monitor.totals import Totals
from ohlcvd.monitor.web import Web
from tests.cache.valkey import free_port
from tests.monitor.documents import answer, child, market
from tests.waiting import eventually

CUT = market(collecting=False, down_reason="trades: closed", down_since_us=1_767_323_045_000_000)


@contextlib.asynccontextmanager
async def serving(known: Knowledge, listen: str = "127.0.0.1:0") -> AsyncIterator[Web]:
    web = Web(listen, known)
    task = asyncio.create_task(web.serve_forever())
    try:
        await eventually(lambda: web.port is not None, "it listens")
        yield web
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def get(web: Web, path: str, host: str = "127.0.0.1") -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{web.port}{path}") as reply:
        if reply.content_type == "application/json":
            return reply.status, await reply.json()
        return reply.status, await reply.text()


def known_of(*children: dict[str, Any], **markets: dict[str, dict[str, object]]) -> Knowledge:
    known = Knowledge(Totals())
    known.supervisor_said(answer(*children), 0.0)
    known.redis_said({}, markets)
    known.look(0, 1.0)
    return known


async def test_while_every_market_is_collected() -> None:
    async with serving(known_of(child("kraken"), kraken={"BTC/USD": market()})) as web:
        assert await get(web, "/healthz") == (200, {"alive": True, "reason": None})
        ready: dict[str, object] = {"ready": True, "reason": None, "not_collecting": [], "parked": []}
        assert await get(web, "/readyz") == (200, ready)
        status, document = await get(web, "/status")
        assert (status, document["healthy"], document["markets"][0]["symbol"]) == (200, True, "BTC/USD")
        status, text = await get(web, "/metrics")
        assert status == 200
        assert 'ohlcvd_market_collecting{exchange="kraken",symbol="BTC/USD"} 1.0' in text
        assert (await get(web, "/"))[0] == 200
        assert (await get(web, "/nothing"))[0] == 404
        assert web.requests == 5


async def test_a_market_that_is_not_collected_is_named_with_since_when_and_why() -> None:
    known = known_of(child("kraken", streams_live=3), kraken={"BTC/USD": market(), "ETH/USD": CUT})
    async with serving(known) as web:
        assert (await get(web, "/healthz"))[0] == 200
        status, document = await get(web, "/readyz")
        assert (status, document["ready"]) == (503, False)
        assert document["reason"] == "not collected: kraken ETH/USD: trades: closed"
        assert document["not_collecting"] == [
            {"exchange": "kraken", "symbol": "ETH/USD", "since": "2026-01-02T03:04:05.000Z", "reason": "trades: closed"}
        ]


async def test_a_market_that_is_not_traded_any_more_is_nothing_to_wait_for() -> None:
    known = known_of(child("kraken"), kraken={"BTC/USD": market(), "LUNA/USD": {"parked": "not traded any more"}})
    async with serving(known) as web:
        status, document = await get(web, "/readyz")
        assert (status, document["parked"]) == (200, [{"exchange": "kraken", "symbol": "LUNA/USD"}])
        assert "LUNA" not in (await get(web, "/metrics"))[1]


async def test_a_child_that_has_said_nothing_yet_is_not_ready() -> None:
    async with serving(
        known_of(child("kraken", None, state="backing_off"), child("okx", state="ready", streams=0))
    ) as web:
        status, document = await get(web, "/readyz")
        assert status == 503
        assert [(row["exchange"], row["symbol"]) for row in document["not_collecting"]] == [
            ("kraken", None),
            ("okx", None),
        ]
        assert "killed by SIGKILL" in document["not_collecting"][0]["reason"]


async def test_a_supervisor_that_does_not_answer_is_neither_alive_nor_ready() -> None:
    known = known_of(child("kraken"), kraken={"BTC/USD": market()})
    known.supervisor_silent("timed out")
    known.look(0, 60.0)
    async with serving(known) as web:
        for path in ("/healthz", "/readyz"):
            status, document = await get(web, path)
            assert status == 503
            assert document["reason"] == "the supervisor does not answer: timed out"
        assert (await get(web, "/status"))[1]["state"] == "unknown"


async def test_redis_away_is_no_reason_not_to_be_ready() -> None:
    known = known_of(child("kraken", redis_up=0), kraken={"BTC/USD": market()})
    known.redis_silent("no answer")
    known.look(0, 1.0)
    async with serving(known) as web:
        assert (await get(web, "/readyz"))[0] == 200
        assert (await get(web, "/status"))[1]["problems"][0]["subject"] == "redis"


@pytest.mark.parametrize(("listen", "host"), [("localhost:0", "localhost"), ("[::1]:0", "[::1]")])
async def test_host_names_and_ipv6(listen: str, host: str) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        listen, host = "127.0.0.1:0", "127.0.0.1"  # a machine without IPv6
    async with serving(known_of(child("kraken")), listen) as web:
        assert (await get(web, "/healthz", host))[0] == 200


async def test_a_port_in_use_is_tried_again_until_it_is_free(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        web = Web(f"127.0.0.1:{port}", known_of(child("kraken")))
        task = asyncio.create_task(web.serve_forever())
        await eventually(lambda: f"cannot listen on 127.0.0.1 port {port}" in caplog.text, "it says so")
        assert "next try in 1 s" in caplog.text
        assert not task.done()
        assert web.port is None
    await eventually(lambda: web.port == port, "it has the port")
    assert (await get(web, "/healthz"))[0] == 200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
