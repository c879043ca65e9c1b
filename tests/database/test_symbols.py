"""Additions and removals of symbols, and what is wanted and covered of many markets at once."""

from ohlcvd.database import Database, Exchange, SymbolRepository
from ohlcvd.database.wanted import want_all
from ohlcvd.market import MINUTE_US, Kind
from tests.database.support import query

CANDLES: list[Kind] = ["candles"]
TRADES: list[Kind] = ["trades"]
T0 = 1_700_000_040_000_000


async def test_the_last_word_on_a_symbol_counts(database_url: str) -> None:
    async with Database(database_url) as database:
        await database.wait_until_up()
        repository = SymbolRepository(database)
        assert await repository.list() == []
        assert await repository.get_by_exchange("kraken") == Exchange("kraken", ())
        first = await repository.add("kraken", "ETH/USD")
        assert (first.exchange, first.symbol, first.added) == ("kraken", "ETH/USD", True)
        assert await repository.add("kraken", "ETH/USD") == first, "the same again changes nothing"
        await repository.add("binance", "*/EUR")
        await repository.remove("kraken", "BTC/USD")
        kraken = await repository.get_by_exchange("kraken")
        assert (kraken.added, kraken.removed) == (("ETH/USD",), ("BTC/USD",))
        assert [(one.exchange, one.symbol) for one in await repository.list()] == [
            ("binance", "*/EUR"),
            ("kraken", "BTC/USD"),
            ("kraken", "ETH/USD"),
        ]
        removed = await repository.remove("kraken", "ETH/USD")
        assert removed.changed_us > first.changed_us
        assert (await repository.get_by_exchange("kraken")).removed == ("BTC/USD", "ETH/USD")


async def test_what_was_once_wanted_stays_wanted_and_all_is_known_at_once(database_url: str) -> None:
    async with Database(database_url) as database:
        await database.wait_until_up()
        instruments = await database.instruments("kraken", [f"S{number}/USD" for number in range(500)])
        ids = [instrument.id for instrument in instruments.values()]
        pages = await want_all(database, ids, CANDLES, T0)
        assert {(page.instrument_id, page.kind, page.wanted_from_us) for page in pages} == {
            (one, "candles", T0) for one in ids
        }
        assert all(page.covered == [] for page in pages)
        covered = (
            "UPDATE ohlcvd.coverage SET covered = '{[2026-01-01 00:00+00,2026-01-01 00:01+00),[2026-01-02,2026-01-03)}'"
        )
        query(database_url, f"{covered} WHERE instrument_id = {ids[0]} RETURNING 1")
        later = {
            (page.instrument_id, page.kind): page for page in await want_all(database, ids, CANDLES + TRADES, T0 + 5)
        }
        assert later[ids[0], "candles"].wanted_from_us == T0
        assert later[ids[0], "trades"].wanted_from_us == T0 + 5
        (lower_us, upper_us), (second_us, _) = later[ids[0], "candles"].covered
        assert (upper_us - lower_us, second_us - lower_us) == (MINUTE_US, 24 * 60 * MINUTE_US)
        earlier = {(page.instrument_id, page.kind): page for page in await want_all(database, ids[:1], TRADES, T0 - 5)}
        assert earlier[ids[0], "trades"].wanted_from_us == T0 - 5
