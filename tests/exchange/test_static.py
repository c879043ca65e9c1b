"""ccxt's own static cases: recorded REST answers through a real server give what ccxt's own tests expect of them."""

import json
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import web

from ohlcvd.config import ExchangeConfig
from ohlcvd.exchange import ExchangeHandler
from tests.exchange.support import real_data


@pytest.mark.parametrize("name", ["binanceus", "coinbaseexchange", "kraken", "upbit"])
async def test_an_answer_gives_what_ccxt_expects(name: str) -> None:
    document = json.loads((real_data() / "ccxt_static" / f"{name}.json").read_text())
    market = {"id": document["market_id"], "symbol": "BTC/USDT", "base": "BTC", "quote": "USDT", "baseId": "BTC",
              "quoteId": "USDT", "type": "spot", "spot": True, "active": True, "contract": False, "swap": False,
              "precision": {}, "limits": {}, "info": {}}  # fmt: skip
    answers: list[Any] = []

    async def answer(_: web.Request) -> web.Response:
        return web.json_response(answers[-1])

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    handler = ExchangeHandler(ExchangeConfig(name, (), f"http://127.0.0.1:{runner.addresses[0][1]}"))
    await handler.connect([market])
    try:
        for case in document["cases"]:
            answers.append(case["httpResponse"])
            if case["method"] == "fetchTrades":
                found = (await handler.get_trades("BTC/USDT")).trades
                assert [
                    (one.ts_us // 1000, one.id, Decimal(one.price), Decimal(one.amount), one.side) for one in found
                ] == [
                    (row["timestamp"], row["id"], exact(row["price"]), exact(row["amount"]), row["side"])
                    for row in case["parsedResponse"]
                ]
            else:
                (candle,) = await handler.get_ohlcv("BTC/USDT")
                values = candle.open, candle.high, candle.low, candle.close, candle.volume
                assert [[candle.ts_us // 1000, *map(Decimal, values)]] == [
                    [row[0], *map(exact, row[1:])] for row in case["parsedResponse"]
                ]
        assert len(answers) == len(document["cases"]) > 0
    finally:
        await handler.close()
        await runner.cleanup()


def exact(number: float) -> Decimal:
    return Decimal(repr(number))
