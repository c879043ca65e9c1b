"""Names and globs against what an exchange lists."""

from ohlcvd.symbols import select, shard_of

LISTED = {"BTC/USD": True, "ETH/USD": True, "DOGE/USD": False, "BTC/USDT": True, "BTC/USDT:USDT": True, "A/BUSD": True}


def test_names_are_taken_where_listed_and_named_where_not() -> None:
    selection = select(["ETH/USD", "BTC/USD", "XRP/USD", "DOGE/USD"], LISTED)
    assert selection.symbols == ["BTC/USD", "DOGE/USD", "ETH/USD"]
    assert selection.unlisted == ["XRP/USD"]


def test_globs_take_active_spot_markets_only() -> None:
    assert select(["*/USD"], LISTED).symbols == ["BTC/USD", "ETH/USD"]
    assert select(["BTC/*"], LISTED).symbols == ["BTC/USD", "BTC/USDT"]
    assert select(["*/USDT:USDT"], LISTED).symbols == ["BTC/USDT:USDT"]
    assert select(["*", "!*/BUSD", "!BTC/*"], LISTED).symbols == ["ETH/USD"]


def test_shards_split_without_overlap_the_same_way_every_time() -> None:
    symbols = [f"S{number}/USD" for number in range(100)]
    parts = [shard_of(symbols, shard, 3) for shard in (1, 2, 3)]
    assert sorted(symbol for part in parts for symbol in part) == sorted(symbols)
    assert all(20 < len(part) < 50 for part in parts)
    assert shard_of(["S1/USD"], 1, 1) == ["S1/USD"]
