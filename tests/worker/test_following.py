"""How often the exchange is asked for its markets, and what is known of them from before."""

import gc
import json
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from ohlcvd.config import ExchangeConfig
from ohlcvd.exchange import ExchangeHandler
from ohlcvd.exchange.known import LISTING_AGE_S, KnownFile
from ohlcvd.worker.following import CALM_S, PARKED_S, SOON_S, reading_pause_s
from tests.exchange.support import simulator


def test_markets_are_read_as_often_as_a_change_could_matter_and_costs_allow() -> None:
    assert SOON_S * 1.1 < 30, "a new listing is to be stored within a minute"
    assert reading_pause_s(200, soon=True, parked=False) == SOON_S
    assert reading_pause_s(200, soon=False, parked=True) == PARKED_S
    assert reading_pause_s(200, soon=False, parked=False) == CALM_S
    assert reading_pause_s(5_000, soon=True, parked=True) == 50.0


def test_what_was_listed_is_kept_for_hours_and_only_for_the_same_source(tmp_path: Path) -> None:
    path = tmp_path / "markets" / "kraken.json"
    file = KnownFile(path, "kraken")
    assert file.load(1_000.0) is None
    file.save(1_000.0, {"BTC/USD": True, "ETH/USD": False}, [{"symbol": "BTC/USD", "info": {"x": ["1"]}}])
    known = file.load(1_000.0 + LISTING_AGE_S)
    assert known is not None
    assert known.listed == {"BTC/USD": True, "ETH/USD": False}
    assert known.markets == [{"symbol": "BTC/USD", "info": {"x": ["1"]}}]
    assert file.load(1_001.0 + LISTING_AGE_S) is None
    assert file.load(999.0) is None, "it is not from the future"
    assert KnownFile(path, "kraken http://elsewhere").load(1_000.0) is None
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_file_that_cannot_be_used_is_as_good_as_none(tmp_path: Path) -> None:
    path = tmp_path / "kraken.json"
    file = KnownFile(path, "kraken")
    for text in ("", "{", "[]", "{}", json.dumps({"form": 1, "source": "kraken", "read_s": "x"})):
        path.write_text(text)
        assert file.load(0.0) is None
    path.unlink()
    path.mkdir()
    file.save(0.0, {}, [])
    assert file.load(0.0) is None


@pytest.mark.parametrize("exchange", ["kraken", "binance"])
async def test_nothing_is_left_of_markets_that_are_not_kept(exchange: str) -> None:
    async with simulator(symbols=10) as running:
        config = ExchangeConfig(exchange, (), running.rest_url(exchange), running.ws_url(exchange))
        handler = ExchangeHandler(config)
        await handler.connect(chosen_later=True)
        try:
            first, second, *others = handler.symbols()
            assert handler.has_markets([first, *others])
            assert [market["symbol"] for market in handler.keep_markets([first])] == [first]
            assert await handler.get_ohlcv(first)
            await handler.read_markets()
            handler.keep_markets([first, second])
            assert handler.has_markets([first, second])
            assert len(handler.symbols()) == 10
            assert await handler.get_ohlcv(second)
            assert _structures(others) == []
        finally:
            await handler.close()


def _structures(symbols: Sequence[str]) -> list[str]:
    """Of which of these there is a ccxt structure anywhere in this process."""
    gc.collect()
    dicts = (one for one in gc.get_objects() if type(one) is dict and "info" in one)
    return [one["symbol"] for one in dicts if one.get("symbol") in symbols]


async def test_a_handler_begins_with_what_is_known_and_asks_nothing(tmp_path: Path) -> None:
    async with simulator(symbols=10) as running:
        venue = running.venue("kraken")
        config = ExchangeConfig("kraken", (), running.rest_url("kraken"), running.ws_url("kraken"))
        first = ExchangeHandler(config)
        await first.connect()
        try:
            listed = dict(first.symbols())
            kept = first.keep_markets([*listed][:2])
            assert [market["symbol"] for market in kept] == [*listed][:2]
            assert first.has_markets([*listed][:2])
            assert not first.has_markets([*listed][:3])
            assert len(first.symbols()) == 10
            file = KnownFile(tmp_path / "kraken.json", "kraken")
            file.save(5.0, listed, kept)
        finally:
            await first.close()
        asked = venue.requests.total()
        known = file.load(5.0)
        assert known is not None
        second = ExchangeHandler(config)
        await second.connect(known.markets, known.listed)
        try:
            assert dict(second.symbols()) == listed
            assert second.has_markets([*listed][:2])
            assert venue.requests.total() == asked
            running.fault("list", exchange="kraken", symbol="NEW/USD")
            assert (await second.read_markets())["NEW/USD"]
            assert second.has_markets(["NEW/USD"])
            second.keep_markets([next(iter(listed)), "NEW/USD"])
            assert not second.has_markets([[*listed][1]])
            assert await second.get_ohlcv("NEW/USD")
        finally:
            await second.close()
