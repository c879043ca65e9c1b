from pathlib import Path

from ohlcvd.config import Config
from ohlcvd.exchange import ExchangeQueue
from tests.exchange.support import simulator


async def test_one_handler_for_each_exchange_counted_and_closed(tmp_path: Path) -> None:
    async with simulator() as running:
        file = tmp_path / "ohlcvd.conf"
        file.write_text(f"[ohlcvd]\nexchanges = kraken\n[exchange:kraken]\nrest_url = {running.rest_url('kraken')}\n")
        config = Config(file, environ={})
        await ExchangeQueue.initialize_factory(config)
        try:
            handler = await ExchangeQueue.get_handler("kraken", "ohlcv")
            assert await ExchangeQueue.get_handler("kraken", "trade") is handler
            await handler.connect()
            assert len(handler.symbols()) == 20
            assert (await handler.get_ohlcv("BTC/USD", limit=1))[0].source == "venue"
            await ExchangeQueue.release_handler(handler)
            assert await ExchangeQueue.get_handler("kraken") is handler
            await ExchangeQueue.release_handler(handler)
            await ExchangeQueue.release_handler(handler)
            assert await ExchangeQueue.get_handler("kraken") is not handler
            assert (await ExchangeQueue.get_handler("binance")).name == "binance"
        finally:
            await ExchangeQueue.shutdown_factory()
