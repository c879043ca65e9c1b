"""Names and globs against what an exchange lists."""

from ohlcvd.symbols import Decision, Roster, choose, select, shard_of

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


def test_what_people_add_and_remove_comes_on_top() -> None:
    def chosen(added: tuple[str, ...] = (), removed: tuple[str, ...] = ()) -> list[str]:
        return choose(["*/USD", "!BTC/*"], LISTED, added, removed).symbols

    assert chosen() == ["ETH/USD"]
    assert chosen(added=("BTC/USD", "DOGE/USD")) == ["BTC/USD", "DOGE/USD", "ETH/USD"]
    assert chosen(added=("*/BUSD",)) == ["A/BUSD", "ETH/USD"]
    assert chosen(removed=("ETH/USD",)) == []
    assert chosen(added=("BTC/USD", "BTC/*"), removed=("BTC/*",)) == ["BTC/USD", "ETH/USD"], "a plain name counts more"
    assert choose(["XRP/USD"], LISTED, ("NO/SUCH", "XRP/USD")).unlisted == ["XRP/USD", "NO/SUCH"]
    assert choose(["XRP/USD"], LISTED, removed=("XRP/USD",)).unlisted == []


def decided(roster: Roster, collected: list[str], trading: tuple[str, ...] = ()) -> Decision:
    return roster.decide(collected, lambda symbol: symbol in trading)


def test_a_new_listing_joins_where_a_glob_matches() -> None:
    roster = Roster(["*/USD"])
    roster.read({"BTC/USD": True})
    assert decided(roster, []) == Decision(["BTC/USD"], [], [], 1)
    roster.read({"BTC/USD": True, "NEW/USD": True, "NEW/EUR": True})
    assert decided(roster, ["BTC/USD"]).symbols == ["BTC/USD", "NEW/USD"]
    assert roster.follows_listing


def test_a_delisted_one_is_parked_when_two_answers_agree_and_comes_back() -> None:
    roster = Roster(["*/USD", "ETH/EUR"])
    everything = {"BTC/USD": True, "ETH/USD": True, "ETH/EUR": True}
    roster.read(everything)
    collected = decided(roster, []).symbols
    roster.read({"BTC/USD": True, "ETH/USD": False})
    assert decided(roster, collected) == Decision(collected, [], [], 3), "one answer may be wrong"
    assert [roster.has_doubts] == [True]
    roster.read({"BTC/USD": True, "ETH/USD": False})
    assert decided(roster, collected, trading=("ETH/USD",)).parked == ["ETH/EUR"], "whoever trades is there"
    decision = decided(roster, collected)
    assert decision == Decision(["BTC/USD"], [], ["ETH/EUR", "ETH/USD"], 1)
    assert decided(roster, decision.symbols) == decision
    assert [roster.has_doubts] == [False]
    roster.read(everything)
    assert decided(roster, decision.symbols) == Decision(collected, [], [], 3)


def test_an_exchange_that_lists_nothing_for_a_moment_loses_nothing() -> None:
    roster = Roster(["*/USD"])
    roster.read({"BTC/USD": True, "ETH/USD": True})
    roster.read({})
    assert decided(roster, ["BTC/USD", "ETH/USD"]).symbols == ["BTC/USD", "ETH/USD"]
    roster.read({"BTC/USD": True, "ETH/USD": True})
    assert [roster.has_doubts] == [False]


def test_one_that_nobody_wants_any_more_is_not_parked() -> None:
    roster = Roster(["BTC/USD", "ETH/USD"])
    roster.read({"BTC/USD": True, "ETH/USD": True})
    for _ in range(2):
        roster.read({"BTC/USD": True})
    assert decided(roster, ["BTC/USD", "ETH/USD"]).parked == ["ETH/USD"]
    roster.configured = ("BTC/USD",)
    assert decided(roster, ["BTC/USD"]) == Decision(["BTC/USD"], [], [], 1)
    assert not roster.follows_listing


def test_shards_of_a_roster_share_out_what_is_wanted() -> None:
    listed = {f"S{number}/USD": True for number in range(20)}
    rosters = [Roster(["*/USD"], shard, 2) for shard in (1, 2)]
    for roster in rosters:
        roster.read(listed)
    first, second = (decided(roster, []) for roster in rosters)
    assert sorted(first.symbols + second.symbols) == sorted(listed)
    assert first.of == second.of == 20
